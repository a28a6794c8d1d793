"""The kiosk: capture, server and browser as processes that are looked after."""
