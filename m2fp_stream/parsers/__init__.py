"""Finds people and their parts in pictures."""
