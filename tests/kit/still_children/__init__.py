"""Processes in the place of `m2fp_stream.kiosk.still_worker`, each with a fault of its own."""
