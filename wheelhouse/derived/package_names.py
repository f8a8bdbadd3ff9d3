"""Sets of package names, as options and rules give them: names, or `:all:`."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.utils import canonicalize_name

ALL = ":all:"
"""Every package."""


def read_names(names: Iterable[str]) -> frozenset[str]:
    """Return the normalized names, `:all:` as it is."""
    return frozenset(name if name == ALL else canonicalize_name(name) for name in names)


def includes(names: frozenset[str], name: str) -> bool:
    """Return whether *names* (of `read_names`) include a package."""
    return ALL in names or canonicalize_name(name) in names
