"""Advisories in the OSV format, as frozen dataclasses, from JSON or YAML text. Pure.

    advisory = parse_advisory(json.loads(text))
    advisory.affected[0].name       # "jinja2"

Schema: https://ossf.github.io/osv-schema/. Only packages of the ecosystem PyPI are kept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from packaging.utils import canonicalize_name

from offline_bundle.wheelhouse.audit.severity import base_score, rating, worded

if TYPE_CHECKING:
    from collections.abc import Iterator

_ECOSYSTEM = "pypi"
_EVENTS = ("introduced", "fixed", "last_affected", "limit")
_NO_VALUE = ("", "null", "~")
_LONGEST_TEXT = 200
_DEEPEST = 100
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
# why the base loader: every scalar stays text (1.10 is not 1.1), and no tag creates an object


class AdvisoryError(ValueError):
    """A file is not an advisory; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Event:
    """A version at which a range begins or ends."""

    kind: str
    """introduced, fixed, last_affected, or limit."""
    version: str


@dataclass(frozen=True, slots=True)
class Affected:
    """The affected versions of one package."""

    name: str
    """Normalized."""
    ranges: tuple[tuple[Event, ...], ...]
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Advisory:
    """One advisory."""

    id: str
    aliases: tuple[str, ...]
    summary: str
    """One line, perhaps empty."""
    is_withdrawn: bool
    severity: str
    """One of `severity.ORDER`."""
    score: float | None
    """CVSS 3 base score, None if there is no such vector."""
    affected: tuple[Affected, ...]


def decode_advisory(content: bytes, *, is_yaml: bool) -> Advisory:
    """Return the advisory in a file. Raises AdvisoryError for anything else."""
    try:
        text = content.decode()
        document = _load_yaml(text) if is_yaml else json.loads(text)
    except AdvisoryError:
        raise
    except RecursionError:
        raise AdvisoryError("nested too deeply") from None
    except yaml.YAMLError as error:
        raise AdvisoryError(f"not valid YAML: {_one_line(str(error))}") from None
    except ValueError as error:  # JSON, UTF-8, huge integers
        raise AdvisoryError(f"not valid {'YAML' if is_yaml else 'JSON'}: {error}") from None
    return parse_advisory(document)


def _load_yaml(text: str) -> object:
    """Return the document in YAML text, nested at most 100 levels.

    The C loader recurses without a limit and ends the process where the stack ends. Its events do
    not recurse, so the depth is checked on these first.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise AdvisoryError("nested too deeply")
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 - the base loader creates no objects


def parse_advisory(document: object) -> Advisory:
    """Return the advisory in a parsed *document*. Raises AdvisoryError if it is not one."""
    if not isinstance(document, dict):
        raise AdvisoryError("not an advisory: not an object")
    if not isinstance(document.get("id"), str) or not document["id"].strip():
        raise AdvisoryError("not an advisory: it has no id")
    if "affected" not in document and not _is_withdrawn(document):
        raise AdvisoryError("not an advisory: it has no list of affected packages")
    severity, score = _severity(document)
    return Advisory(
        id=_one_line(document["id"]),
        aliases=tuple(map(_one_line, _texts(document, "aliases"))),
        summary=_one_line(_text(document, "summary") or _text(document, "details")),
        is_withdrawn=_is_withdrawn(document),
        severity=severity,
        score=score,
        affected=tuple(_read_affected(document)),
    )


def _read_affected(document: dict[str, Any]) -> Iterator[Affected]:
    for entry in _objects(document, "affected"):
        package = entry.get("package")
        if package is None:
            continue  # a range of git commits only
        if not isinstance(package, dict):
            raise AdvisoryError("affected.package must be an object")
        if _text(package, "ecosystem").partition(":")[0].lower() != _ECOSYSTEM:
            continue
        name = _text(package, "name")
        if not name:
            raise AdvisoryError("affected.package has no name")
        ranges = [_read_events(item) for item in _objects(entry, "ranges")]
        yield Affected(
            name=str(canonicalize_name(name)),
            ranges=tuple(events for events in ranges if events),
            versions=_texts(entry, "versions"),
        )


def _read_events(item: dict[str, Any]) -> tuple[Event, ...]:
    kind = _text(item, "type")
    if kind == "GIT":
        return ()
    if kind not in {"ECOSYSTEM", "SEMVER"}:
        raise AdvisoryError(f"unknown type of range {_one_line(kind)!r}")
    events = []
    for event in _objects(item, "events"):
        # an event with no key of the schema would silently change the range
        if not event or not set(event).issubset(_EVENTS):
            raise AdvisoryError("unknown event in affected.ranges.events")
        events += [Event(key, _text(event, key)) for key in event]
    if not any(event.kind == "introduced" for event in events):
        raise AdvisoryError("a range has no event `introduced`")
    return tuple(events)


def _severity(document: dict[str, Any]) -> tuple[str, float | None]:
    """Return the worst rating in an advisory, and its score if that is known."""
    own = document.get("database_specific")
    entries = [*_objects(document, "severity")]
    for affected in _objects(document, "affected"):
        entries += _objects(affected, "severity")
    scores = [base_score(_text(entry, "score")) for entry in entries]
    known = [score for score in scores if score is not None]
    if known:
        return rating(max(known)), max(known)
    text = own.get("severity") if isinstance(own, dict) else None
    return worded(text if isinstance(text, str) else ""), None


def _is_withdrawn(document: dict[str, Any]) -> bool:
    value = document.get("withdrawn")
    return value is not None and value not in _NO_VALUE


def _objects(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = document.get(key)
    if value is None or value in _NO_VALUE:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise AdvisoryError(f"{key} must be a list of objects")
    return value


def _texts(document: dict[str, Any], key: str) -> tuple[str, ...]:
    value = document.get(key)
    if value is None or value in _NO_VALUE:
        return ()
    if not isinstance(value, list) or not {str}.issuperset(map(type, value)):
        raise AdvisoryError(f"{key} must be a list of texts")
    return tuple(value)


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise AdvisoryError(f"{key} must be text")
    return value


def _one_line(text: str) -> str:
    """Return *text* as one printable line of at most 200 characters."""
    line = " ".join(text[: 10 * _LONGEST_TEXT].split())
    if not line.isprintable():
        line = "".join(character if character.isprintable() else " " for character in line)
    return line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 1]}…"
