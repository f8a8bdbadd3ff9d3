"""Shared by the unit and integration tests: Text output: tables on a terminal and in a pipe, sizes,
untrusted text.
"""

from __future__ import annotations

TITLES = ("package", "size", "state", "in")


ROWS = [
    ("alpha", "1", ("done", "green"), "a " * 60 + "end"),
    ("[bold]b", "1000", ("lost", "red"), ""),
]
