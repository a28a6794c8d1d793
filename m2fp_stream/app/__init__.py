"""Puts the parts together: the only room that picks sources, parsers and sinks."""
