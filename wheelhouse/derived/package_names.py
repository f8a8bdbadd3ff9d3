"""Sets of package names, as options and rules give them: names, or `:all:`."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.utils import InvalidName, canonicalize_name

from offline_bundle.wheelhouse.runtime.errors import InputError

ALL = ":all:"
"""Every package."""


def read_names(names: Iterable[str]) -> frozenset[str]:
    """Return the normalized names, `:all:` as it is. Raises InputError for an invalid one."""
    return frozenset(name if name == ALL else _read_name(name) for name in names)


def _read_name(name: str) -> str:
    try:
        return canonicalize_name(name, validate=True)
    except InvalidName as error:
        hint = "write a name as on the package index, such as numpy, or :all:"
        raise InputError(f"invalid package name {name!r}", hint=hint) from error


def includes(names: frozenset[str], name: str) -> bool:
    """Return whether *names* (of `read_names`) include a package."""
    return ALL in names or canonicalize_name(name) in names
