"""What the process does to itself, so that raw footage stays in it."""
