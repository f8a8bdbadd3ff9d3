"""Small TOML files of a reviewer, read strictly: unknown keys are errors. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from typing import Any

from offline_bundle.wheelhouse.runtime.errors import InputError


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Parse a TOML file; raises InputError that names it."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:  # also more digits than int() takes
        raise InputError(f"{name}: not valid TOML: {error}", hint="correct the file") from None


def check_keys(table: dict[str, Any], allowed: Collection[str], where: str) -> None:
    """Check that *table* has no other keys: a misspelled rule must not be skipped silently."""
    if unknown := sorted(set(table) - set(allowed)):
        raise InputError(
            f"{where}: unknown key {', '.join(unknown)}",
            hint=f"the keys are {', '.join(allowed)}",
        )


def texts_of(table: dict[str, Any], key: str, where: str) -> tuple[str, ...] | None:
    """Return the list of texts at *key*; None if it is missing."""
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InputError(f"{where}: {key} must be a list of texts", hint="correct the file")
    return tuple(value)


def text_of(table: dict[str, Any], key: str, where: str) -> str:
    """Return the text at *key*; raises InputError if it is missing or empty."""
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {key} must be a text", hint="correct the file")
    return value
