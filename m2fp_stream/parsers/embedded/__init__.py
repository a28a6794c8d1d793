"""The embedded parser: the default, and the guard of every mode; its weights ship along.

Nothing is imported here: a look process needs networks, not options, and starts with every film.
"""
