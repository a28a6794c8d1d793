"""Live pictures: captured, looked at, shown covered."""
