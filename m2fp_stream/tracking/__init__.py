"""Follows people: their tracks, heads and shapes, and what moves besides."""
