"""From what looks saw to what is covered: the same for files and live pictures, and pure.

`tracking` says what is meant where a number here comes from the tune half, or was chosen.
"""
