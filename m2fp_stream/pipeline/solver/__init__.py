"""From what looks saw to what is covered: the same for files and live pictures, and pure."""
