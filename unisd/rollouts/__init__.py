"""Completions of the student: a small protocol and its engines."""
