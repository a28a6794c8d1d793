"""How sources, parsers, tracking and sinks run together."""
