"""Advisories in the OSV format, as frozen dataclasses, from JSON or YAML text. Pure.

    advisory = parse_advisory(json.loads(text))
    advisory.affected[0].name       # "jinja2"

Schema: https://ossf.github.io/osv-schema/. Kept are packages of the ecosystem PyPI, and CPython:
as the package `python` of the ecosystem Bitnami, or as its repository with a list of versions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from packaging.utils import canonicalize_name

from offline_bundle.wheelhouse.derived.audit_result import INTERPRETER
from offline_bundle.wheelhouse.runtime.text import one_line

_CPYTHON = "github.com/python/cpython"
_EVENTS = ("introduced", "fixed", "last_affected", "limit")
_NO_VALUE = ("", "null", "~")
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
    """Normalized; `INTERPRETER` for CPython."""
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
    vectors: tuple[str, ...]
    """CVSS vectors of any version, as written."""
    word: str
    """The severity in the words of its database, such as `MODERATE`; perhaps empty."""
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
        raise AdvisoryError(f"not valid YAML: {one_line(str(error))}") from None
    except ValueError as error:  # JSON, UTF-8, huge integers
        raise AdvisoryError(f"not valid {'YAML' if is_yaml else 'JSON'}: {error}") from None
    return parse_advisory(document)


def _load_yaml(text: str) -> object:
    """Return the document in YAML text, nested at most 100 levels.

    The C loader recurses without a limit and ends the process where the stack ends. Its events do
    not recurse, so the depth is checked on these first. With aliases, a small
    file would be a document of any size.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise AdvisoryError("it has an alias")
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
    return Advisory(
        id=one_line(document["id"]),
        aliases=tuple(map(one_line, _texts(document, "aliases"))),
        summary=one_line(_text(document, "summary") or _text(document, "details")),
        is_withdrawn=_is_withdrawn(document),
        vectors=tuple(_vectors(document)),
        word=_word(document),
        affected=tuple(_read_affected(document)),
    )


def _read_affected(document: dict[str, Any]) -> Iterator[Affected]:
    for entry in _objects(document, "affected"):
        ranges, versions = _objects(entry, "ranges"), _texts(entry, "versions")
        if any(_is_cpython(item) for item in ranges):
            # why events only without versions: commits cannot be compared, and are then reported
            events = [] if versions else [_commits(item) for item in ranges if _is_cpython(item)]
            tags = tuple(version.removeprefix("v") for version in versions)
            yield Affected(INTERPRETER, tuple(events), tags)
        elif name := _name(entry):
            events = [_read_events(item) for item in ranges]
            yield Affected(name, tuple(item for item in events if item), versions)


def _name(entry: dict[str, Any]) -> str:
    """Return the name of the affected package; empty if it is of another ecosystem."""
    package = entry.get("package")
    if package is None:
        return ""  # a range of git commits only
    if not isinstance(package, dict):
        raise AdvisoryError("affected.package must be an object")
    ecosystem = _text(package, "ecosystem").partition(":")[0].lower()
    name = _text(package, "name")
    if ecosystem == "bitnami" and name == "python":
        return INTERPRETER
    if ecosystem != "pypi":
        return ""
    if not name:
        raise AdvisoryError("affected.package has no name")
    return str(canonicalize_name(name))


def _is_cpython(item: dict[str, Any]) -> bool:
    repository = _text(item, "repo").lower().removesuffix("/").removesuffix(".git")
    return _text(item, "type") == "GIT" and repository.endswith(_CPYTHON)


def _commits(item: dict[str, Any]) -> tuple[Event, ...]:
    return tuple(
        Event(key, _text(event, key)) for event in _objects(item, "events") for key in event
    )


def _read_events(item: dict[str, Any]) -> tuple[Event, ...]:
    kind = _text(item, "type")
    if kind == "GIT":
        return ()
    if kind not in {"ECOSYSTEM", "SEMVER"}:
        raise AdvisoryError(f"unknown type of range {one_line(kind)!r}")
    events = []
    for event in _objects(item, "events"):
        # an event with no key of the schema would silently change the range
        if not event or not set(event).issubset(_EVENTS):
            raise AdvisoryError("unknown event in affected.ranges.events")
        events += [Event(key, _text(event, key)) for key in event]
    if not any(event.kind == "introduced" for event in events):
        raise AdvisoryError("a range has no event `introduced`")
    return tuple(events)


def _vectors(document: dict[str, Any]) -> Iterator[str]:
    entries = [*_objects(document, "severity")]
    for affected in _objects(document, "affected"):
        entries += _objects(affected, "severity")
    for entry in entries:
        if vector := _text(entry, "score").strip():
            yield vector


def _word(document: dict[str, Any]) -> str:
    own = document.get("database_specific")
    text = own.get("severity") if isinstance(own, dict) else None
    return text if isinstance(text, str) else ""


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
