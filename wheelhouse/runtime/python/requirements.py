"""PEP 508 requirements in one spelling, and `requires-python` (PEP 440)."""

import operator as operators
import re

from ..errors import InputError
from ..text import shown, without_logins
from .platforms import dotted_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional

_REQUIREMENT = re.compile(
    r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([^]]*)\])?\s*(.*)$", re.DOTALL
)
_MARKER_TOKEN = re.compile(r"'[^']*'|\"[^\"]*\"|[()]|[<>=!~]+|[^\s()<>=!~'\"]+|.")
_CLAUSE = re.compile(  # PEP 440, "Version specifiers"; a wildcard or a local part: == and != only
    r"(?P<operator>~=|==|!=|<=|>=|<|>)v?(?:(?P<epoch>\d{1,18})!)?"
    r"(?P<release>\d{1,18}(?:\.\d{1,18})*)"
    r"(?:(?P<wildcard>\.\*)|(?P<pre>[-_.]?(?:alpha|a|beta|b|preview|pre|c|rc)[-_.]?\d*)?"
    r"(?P<post>-\d+|[-_.]?(?:post|rev|r)[-_.]?\d*)?(?P<dev>[-_.]?dev[-_.]?\d*)?"
    r"(?P<local>\+[a-z\d]+(?:[-_.][a-z\d]+)*)?)",
    re.ASCII,
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
    A URL is kept without its login, and text that is not a requirement as it is.
    """
    match = _REQUIREMENT.match(text)
    if not match:
        return " ".join(text.split())
    name = _canonical_name(match[1])
    extras = sorted({_canonical_name(extra.strip()) for extra in (match[2] or "").split(",")})
    if match[3].startswith("@"):
        # In a URL, only a semicolon after a blank begins the marker.
        url, _, marker = re.sub(r"\s+;", "\n;", match[3][1:].strip(), count=1).partition("\n;")
        version, separator = f" @ {without_logins(url.strip())}", " ; "
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
    clauses = canonical_specifiers(requires or "")
    results = [_clause_matches(clause, version) for clause in clauses]  # each one is checked
    return all(results)


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
    parts = _parse_clause(clause)
    operator, epoch = parts["operator"], int(parts["epoch"] or 0)
    wanted = [int(part) for part in parts["release"].split(".")]
    length = max(len(wanted), 3)
    release = _padded(version, length)
    is_plain = not (parts["pre"] or parts["post"] or parts["dev"] or parts["local"])
    if parts["wildcard"] or (operator == "==" and len(wanted) == 2 and is_plain):
        is_same = (0, release[: len(wanted)]) == (epoch, wanted)
        return is_same == (operator == "==")
    if operator == "~=" and (0, release[: len(wanted) - 1]) != (epoch, wanted[:-1]):
        return False
    if parts["local"]:
        return operator == "!="  # a release has no local part
    bound = epoch, _padded(wanted, length), _order(parts)
    return bool(_COMPARE[operator]((0, release, 0), bound))


def _parse_clause(clause: str) -> "dict[str, str]":
    """Return the parts of a specifier by their names; raise InputError if it is not one."""
    match = _CLAUSE.fullmatch(clause)
    parts = match.groupdict("") if match else {}
    is_equality = parts.get("operator") in ("==", "!=")
    needs_equality = parts.get("wildcard") or parts.get("local")
    is_short = parts.get("operator") == "~=" and "." not in parts["release"]
    if not parts or (needs_equality and not is_equality) or is_short:
        message = f"requires-python: {shown(clause)} is not a version specifier (PEP 440)"
        raise InputError(message, hint="write it like >=3.10 or ==3.12.*")
    return parts


def _padded(version: "Sequence[int]", length: int) -> "list[int]":
    return list(version) + [0] * (length - len(version))


def _order(parts: "dict[str, str]") -> int:
    """Return how a version sorts against its release: -1 before, 0 equal, 1 after."""
    if parts["pre"] or (parts["dev"] and not parts["post"]):
        return -1
    return 1 if parts["post"] else 0
