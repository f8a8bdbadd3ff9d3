"""PEP 508 requirements in one spelling, and `requires-python` (PEP 440)."""

import re

from .errors import InputError
from .platforms import dotted_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional


def canonical_requirement(text: str) -> str:
    """Return a PEP 508 requirement in one spelling: PEP 503 name, sorted extras and specifiers, plain marker.

    The address of a URL requirement is kept as it is; so is text that is no requirement.
    """

    match = re.match(
        r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([^]]*)\])?\s*(.*)$",
        text,
        re.DOTALL,
    )
    if not match:
        return " ".join(text.split())
    name = re.sub(r"[-_.]+", "-", match[1]).lower()
    extras = sorted(
        {re.sub(r"[-_.]+", "-", extra.strip()).lower() for extra in (match[2] or "").split(",")}
        - {""}
    )
    if match[3].startswith("@"):
        address, _, marker = re.sub(r"\s+;", "\n;", match[3][1:].strip(), count=1).partition("\n;")
        version = " @ " + address.strip()
        separator = " ; "
    else:
        specifiers, _, marker = match[3].partition(";")
        version = ",".join(canonical_specifiers(specifiers.strip().lstrip("(").rstrip(")")))
        separator = "; "
    marker = _canonical_marker(marker)
    return (
        name
        + (f"[{','.join(extras)}]" if extras else "")
        + version
        + (separator + marker if marker else "")
    )


def python_matches(requires: "Optional[str]", version: "tuple[int, int, int]") -> bool:
    """Tell whether a released Python *version* satisfies `requires-python`: PEP 440, but for one thing.

    `==3.12` means 3.12.0 there, but sites write it for any 3.12, and that is how uv runs it: so does this.
    Raises LaunchError 2 for text that is no specifier.
    """
    return all(_clause_matches(clause, version) for clause in canonical_specifiers(requires or ""))


def canonical_specifiers(text: str) -> "list[str]":
    return sorted({"".join(clause.split()).lower() for clause in text.split(",") if clause.strip()})


def _canonical_marker(marker: str) -> str:

    tokens = re.findall(
        r"'[^']*'|\"[^\"]*\"|[()]|[<>=!~]+|[^\s()<>=!~'\"]+|.", " ".join(marker.split())
    )
    quoted = [
        f'"{token[1:-1]}"' if token[0] == "'" and '"' not in token else token for token in tokens
    ]
    return " ".join(token for token in quoted if token.strip())


def _clause_matches(clause: str, version: "tuple[int, int, int]") -> bool:
    """Evaluate one specifier. A release sorts after its own pre-releases and before its post-releases."""

    if clause.startswith("==="):
        return clause[3:] == dotted_version(version)
    match = re.fullmatch(
        r"(~=|==|!=|<=|>=|<|>)v?(\d+(?:\.\d+)*)(\.\*|[-_.]?(?:[abcpr]|dev)[-_.a-z\d]*)?", clause
    )
    operator, release, suffix = match.groups("") if match else ("", "", "")
    wanted = [int(part) for part in release.split(".") if part]
    wildcard = suffix == ".*"
    if (
        not match
        or (wildcard and operator not in ("==", "!="))
        or (operator == "~=" and len(wanted) < 2)
    ):
        message = f"requires-python: {clause!r} is not a version specifier (PEP 440)"
        raise InputError(message, hint="write it like >=3.10 or ==3.12.*")
    length = max(len(wanted), 3)
    have = _padded(version, length)
    if wildcard or (operator == "==" and len(wanted) == 2 and not suffix):
        return (have[: len(wanted)] == wanted) == (operator == "==")
    if operator == "~=" and have[: len(wanted) - 1] != wanted[:-1]:
        return False
    ours, theirs = (have, 0), (_padded(wanted, length), _suffix_order(suffix))
    order = "<" if ours < theirs else ">" if ours > theirs else "="
    return (
        order
        in {"==": "=", "!=": "<>", "<=": "<=", ">=": ">=", "~=": ">=", "<": "<", ">": ">"}[operator]
    )


def _padded(version: "Sequence[int]", length: int) -> "list[int]":
    return list(version) + [0] * (length - len(version))


def _suffix_order(suffix: str) -> int:
    """-1 for a pre-release or a development release, 1 for a post-release, 0 for the release itself."""
    return 0 if not suffix else 1 if suffix.lstrip("-_.").startswith(("post", "rev", "r1")) else -1
