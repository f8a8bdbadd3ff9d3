"""PEP 508 requirements in one spelling, and `requires-python` (PEP 440)."""

import operator as operators
import re

from ..errors import InputError
from .platforms import dotted_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional

_REQUIREMENT = re.compile(
    r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([^]]*)\])?\s*(.*)$", re.DOTALL
)
_MARKER_TOKEN = re.compile(r"'[^']*'|\"[^\"]*\"|[()]|[<>=!~]+|[^\s()<>=!~'\"]+|.")
_CLAUSE = re.compile(
    r"(~=|==|!=|<=|>=|<|>)v?(\d+(?:\.\d+)*)(\.\*|[-_.]?(?:[abcpr]|dev)[-_.a-z\d]*)?"
)
_COMPARE = {
    "==": operators.eq,
    "!=": operators.ne,
    "<=": operators.le,
    ">=": operators.ge,
    "~=": operators.ge,
    "<": operators.lt,
    ">": operators.gt,
}


def canonical_requirement(text: str) -> str:
    """Return a PEP 508 requirement in one spelling.

    The name is normalized (PEP 503), extras and specifiers are sorted, the marker is spaced evenly.
    A URL is kept as it is, and so is text that is not a requirement.
    """
    match = _REQUIREMENT.match(text)
    if not match:
        return " ".join(text.split())
    name = _canonical_name(match[1])
    extras = sorted({_canonical_name(extra.strip()) for extra in (match[2] or "").split(",")})
    if match[3].startswith("@"):
        # In a URL, only a semicolon after a blank begins the marker.
        url, _, marker = re.sub(r"\s+;", "\n;", match[3][1:].strip(), count=1).partition("\n;")
        version, separator = f" @ {url.strip()}", " ; "
    else:
        specifiers, _, marker = match[3].partition(";")
        version = ",".join(canonical_specifiers(specifiers.strip().lstrip("(").rstrip(")")))
        separator = "; "
    extra = ",".join(filter(None, extras))
    marker = _canonical_marker(marker)
    return "".join(
        [name, f"[{extra}]" if extra else "", version, separator + marker if marker else ""]
    )


def python_matches(requires: "Optional[str]", version: "tuple[int, int, int]") -> bool:
    """Return whether a released Python *version* satisfies `requires-python` (PEP 440).

    One deviation: `==3.12` means 3.12.0 to PEP 440, but any 3.12 here and in uv.
    Raises InputError for text that is not a specifier.
    """
    return all(_clause_matches(clause, version) for clause in canonical_specifiers(requires or ""))


def canonical_specifiers(text: str) -> "list[str]":
    """Return the version specifiers in *text*, sorted, without blanks, in lower case."""
    return sorted({"".join(clause.split()).lower() for clause in text.split(",") if clause.strip()})


def _canonical_name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _canonical_marker(marker: str) -> str:
    tokens = _MARKER_TOKEN.findall(" ".join(marker.split()))
    quoted = [
        f'"{token[1:-1]}"' if token[0] == "'" and '"' not in token else token for token in tokens
    ]
    return " ".join(token for token in quoted if token.strip())


def _clause_matches(clause: str, version: "tuple[int, int, int]") -> bool:
    """Evaluate one specifier against the final release *version*."""
    if clause.startswith("==="):
        return clause[3:] == dotted_version(version)
    operator, wanted, suffix = _parse_clause(clause)
    length = max(len(wanted), 3)
    release = _padded(version, length)
    is_prefix = suffix == ".*" or (operator == "==" and len(wanted) == 2 and not suffix)
    if is_prefix:
        return (release[: len(wanted)] == wanted) == (operator == "==")
    if operator == "~=" and release[: len(wanted) - 1] != wanted[:-1]:
        return False
    bound = _padded(wanted, length), _suffix_order(suffix)
    return bool(_COMPARE[operator]((release, 0), bound))


def _parse_clause(clause: str) -> "tuple[str, list[int], str]":
    """Return operator, release numbers and suffix; raise InputError if it is not a specifier."""
    match = _CLAUSE.fullmatch(clause)
    operator, release, suffix = match.groups("") if match else ("", "", "")
    numbers = [int(part) for part in release.split(".") if part]
    is_bad_wildcard = suffix == ".*" and operator not in ("==", "!=")
    if not match or is_bad_wildcard or (operator == "~=" and len(numbers) < 2):
        message = f"requires-python: {clause!r} is not a version specifier (PEP 440)"
        raise InputError(message, hint="write it like >=3.10 or ==3.12.*")
    return operator, numbers, suffix


def _padded(version: "Sequence[int]", length: int) -> "list[int]":
    return list(version) + [0] * (length - len(version))


def _suffix_order(suffix: str) -> int:
    """Return how a version with *suffix* sorts against its release: -1 before, 0 equal, 1 after."""
    if not suffix:
        return 0
    return 1 if suffix.lstrip("-_.").startswith(("post", "rev", "r1")) else -1
