"""Recorded files: a reader, a pure solver and the run that joins them."""
