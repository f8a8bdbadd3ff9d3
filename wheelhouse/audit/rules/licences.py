"""Allowed and denied licences, evaluated over SPDX expressions. Pure.

    Licences(allowed=("MIT",)).problem("MIT OR GPL-3.0-only")       # None: MIT may be chosen
    Licences(allowed=("MIT",)).problem("MIT AND GPL-3.0-only")      # ("allowed-licences", ...)

Of alternatives (OR) one must be acceptable; of a conjunction (AND) all parts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from license_expression import ExpressionError, get_spdx_licensing  # type: ignore[import-untyped]

ALLOWED, DENIED = "allowed-licences", "denied-licences"


class Licences:
    """The rules for licences; *allowed* is None if everything that is not denied is allowed."""

    def __init__(self, allowed: tuple[str, ...] | None, denied: tuple[str, ...] = ()) -> None:
        self._allowed = None if allowed is None else {_key(text) for text in allowed}
        self._denied = {_key(text) for text in denied}

    def problem(self, licence: str) -> tuple[str, str] | None:
        """Return the rule that *licence* breaks and the reason; None if it breaks none.

        *licence* is an SPDX expression, or what else a package declares. A text that is not SPDX
        is compared as a whole.
        """
        if not licence:
            return None if self._allowed is None else (ALLOWED, "it declares no licence")
        if not _holds(licence, lambda keys: keys[0] not in self._denied_among(keys)):
            return DENIED, f"licence {licence}"
        allowed = self._allowed
        if allowed is not None and not _holds(
            licence,
            lambda keys: (
                bool(allowed.intersection(keys)) and keys[0] not in self._denied_among(keys)
            ),
        ):
            return ALLOWED, f"licence {licence}"
        return None

    def _denied_among(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        """Return *keys* if the licence is denied: by name, or by that of the licence in WITH."""
        is_named = self._allowed is not None and keys[0] in self._allowed
        names = keys[:1] if is_named else keys
        return keys if self._denied.intersection(names) else ()


def _holds(licence: str, is_acceptable: Callable[[tuple[str, ...]], bool]) -> bool:
    expression = _parse(licence)
    if expression is None:
        return is_acceptable((_key(licence),))
    return _evaluate(expression, is_acceptable)


def _evaluate(expression: Any, is_acceptable: Callable[[tuple[str, ...]], bool]) -> bool:  # noqa: ANN401 - untyped library
    licensing = get_licensing()
    if isinstance(expression, licensing.AND):
        return all(_evaluate(part, is_acceptable) for part in expression.args)
    if isinstance(expression, licensing.OR):
        return any(_evaluate(part, is_acceptable) for part in expression.args)
    base = getattr(expression, "license_symbol", None)
    names = [expression.render(), *([base.render()] if base is not None else [])]
    return is_acceptable(tuple(_key(name) for name in names))


@cache
def get_licensing() -> Any:  # noqa: ANN401 - untyped library
    """Return the parser with all SPDX identifiers; reading them takes a moment."""
    return get_spdx_licensing()


def _parse(licence: str) -> Any:  # noqa: ANN401 - untyped library
    """Return the expression, None if *licence* is not SPDX."""
    try:
        return get_licensing().parse(licence, validate=True, strict=True)
    except (ExpressionError, RecursionError, ValueError):
        return None


def _key(text: str) -> str:
    """Return *text* as it is compared: SPDX identifiers ignore case."""
    expression = _parse(text)
    name = text if expression is None else expression.render()
    return " ".join(name.split()).casefold()
