"""Follows people: their tracks, heads and shapes, and what moves besides.

Where its numbers come from: *research notes* are the experiments behind the design, whose figures
docs/architecture.md repeats; *the tune half* is that of the scenes and photographs on which limits
were chosen (docs/performance.md, "What people see"), as a rule several at once. What was only
*chosen* was never measured alone.
"""
