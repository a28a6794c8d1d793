"""Carries what a parse found to the frames between parses."""
