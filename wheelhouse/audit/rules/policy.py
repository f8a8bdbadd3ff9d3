"""Rules of a site for the contents of a bundle: `rules.toml`. Pure.

    allowed-licences = ["MIT", "BSD-3-Clause"]      # SPDX identifiers, or the text of a package
    denied-licences = ["AGPL-3.0-only"]
    denied-packages = ["pycrypto", "urllib3<2"]     # PEP 508, without extras and markers
    allowed-indexes = ["https://packages.example.org/simple/"]
    allow-built = false                             # wheels built from source
    required-attestations = ["numpy"]               # or [":all:"]; see PEP 740
    maximum-size = "700M"                           # of the whole bundle
    maximum-exception-days = 90                     # from today until an exception expires

Each key is optional, and a key that is not listed here is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from offline_bundle.wheelhouse.audit.osv.matching import parse_version
from offline_bundle.wheelhouse.audit.rules.licences import Licences
from offline_bundle.wheelhouse.audit.rules.toml_files import check_keys, parse_toml, texts_of
from offline_bundle.wheelhouse.derived.audit_result import Accepted, Breach, Provenance
from offline_bundle.wheelhouse.derived.package_names import includes, read_names
from offline_bundle.wheelhouse.derived.requirement_graph import parse_requirement
from offline_bundle.wheelhouse.derived.wheel_metadata import (
    WheelMetadata,
    describe_source,
    wheel_name,
)
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledFile, Manifest
from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.sizes import format_size, parse_size

if TYPE_CHECKING:
    import datetime as dt

    from packaging.requirements import Requirement


_KEYS = (
    "allowed-licences",
    "denied-licences",
    "denied-packages",
    "allowed-indexes",
    "allow-built",
    "required-attestations",
    "maximum-size",
    "maximum-exception-days",
)


@dataclass(frozen=True)
class Rules:
    """The rules of a file; None and empty where the file has no such rule."""

    licences: Licences | None = None
    denied_packages: tuple[Requirement, ...] = ()
    allowed_indexes: tuple[str, ...] | None = None
    allow_built: bool = True
    required_attestations: frozenset[str] = frozenset()
    """Normalized names, or `:all:`."""
    maximum_size: int | None = None
    maximum_exception_days: int | None = None


def parse_rules(text: str, name: str) -> Rules:
    """Read a rules file; raises InputError that names the faulty key."""
    table = parse_toml(text, name)
    check_keys(table, _KEYS, name)
    allowed = texts_of(table, "allowed-licences", name)
    denied = texts_of(table, "denied-licences", name)
    has_licences = allowed is not None or denied is not None
    denied_packages = texts_of(table, "denied-packages", name) or ()
    return Rules(
        licences=Licences(allowed, denied or ()) if has_licences else None,
        denied_packages=tuple(_requirement(text, name) for text in denied_packages),
        allowed_indexes=texts_of(table, "allowed-indexes", name),
        allow_built=_flag(table, "allow-built", name),
        required_attestations=read_names(texts_of(table, "required-attestations", name) or ()),
        maximum_size=_size(table, "maximum-size", name),
        maximum_exception_days=_days(table, "maximum-exception-days", name),
    )


def find_breaches(
    rules: Rules,
    manifest: Manifest,
    metadata: Mapping[str, WheelMetadata],
    provenance: Provenance | None = None,
) -> list[Breach]:
    """Return every breach of *rules*; *metadata* is by the path of the wheel.

    *provenance* is what was verified, None if no rule needs it.
    """
    breaches: list[Breach] = []
    for path in sorted(metadata):
        breaches += _wheel_breaches(rules, path, manifest.files[path], metadata[path])
        if provenance is not None and path not in provenance.verified:
            breaches += _attestation_breach(rules, path, manifest.files[path], provenance)
    breaches = list(dict.fromkeys(breaches))  # a package may have several wheels
    return [*breaches, *find_size_breaches(rules, manifest)]


def find_size_breaches(rules: Rules, manifest: Manifest) -> list[Breach]:
    """Return the breach of the maximum size of a bundle, if there is one."""
    if rules.maximum_size is None or manifest.size <= rules.maximum_size:
        return []
    reason = f"{format_size(manifest.size)} is more than {format_size(rules.maximum_size)}"
    return [Breach("maximum-size", "bundle", reason)]


def find_exception_breaches(
    rules: Rules, exceptions: Iterable[Accepted], today: dt.date
) -> list[Breach]:
    """Return the exceptions that hold for longer than *rules* allow."""
    limit = rules.maximum_exception_days
    return [
        Breach("maximum-exception-days", entry.id, f"the exception holds until {entry.until}")
        for entry in exceptions
        if limit is not None and (entry.until - today).days > limit
    ]


def _wheel_breaches(
    rules: Rules, path: str, file: BundledFile, metadata: WheelMetadata
) -> Iterator[Breach]:
    name, version = _identity(path, file)
    subject = f"{name} {version}"
    if rules.licences and (breach := rules.licences.problem(metadata.licence)):
        yield Breach(breach[0], subject, breach[1])
    for requirement in rules.denied_packages:
        if _is_denied(requirement, name, version):
            yield Breach("denied-packages", subject, f"denied by {requirement}")
    source = file.source
    if rules.allowed_indexes is not None:
        index = source.index if source else None
        if index is None or index.rstrip("/") not in {u.rstrip("/") for u in rules.allowed_indexes}:
            yield Breach("allowed-indexes", subject, f"from {describe_source(file.source)}")
    if not rules.allow_built and (source is None or source.index is None or source.built_from):
        yield Breach("allow-built", subject, _built_reason(file))


def _attestation_breach(
    rules: Rules, path: str, file: BundledFile, provenance: Provenance
) -> Iterator[Breach]:
    name, version = _identity(path, file)
    if includes(rules.required_attestations, name):
        reason = provenance.wrong.get(path, "it has no attestation")
        yield Breach("required-attestations", f"{name} {version}", reason)


def _identity(path: str, file: BundledFile) -> tuple[str, str]:
    """Return name and version of a wheel: from the manifest, else from its file name."""
    return wheel_name(path, file), file.version or path.rpartition("/")[2].split("-")[1]


def _is_denied(requirement: Requirement, name: str, version: str) -> bool:
    if canonicalize_name(requirement.name) != name:
        return False
    parsed = parse_version(version)
    # a version that cannot be ordered is denied: it cannot be shown to be outside
    return parsed is None or requirement.specifier.contains(parsed, prereleases=True)


def _built_reason(file: BundledFile) -> str:
    source = file.source
    if source is None:
        return "its source is unknown"
    if source.built_from:
        return f"built from the source distribution {source.built_from}"
    return f"from {describe_source(file.source)}, not from an index"


def _requirement(text: str, name: str) -> Requirement:
    requirement = parse_requirement(text)
    if requirement is None or requirement.extras or requirement.marker or requirement.url:
        message = f"{name}: denied-packages: {text!r} is not a name with versions"
        raise InputError(message, hint="for example urllib3<2")
    return requirement


def _flag(table: dict[str, Any], key: str, name: str) -> bool:
    value = table.get(key, True)
    if not isinstance(value, bool):
        raise InputError(f"{name}: {key} must be true or false", hint="correct the file")
    return value


def _days(table: dict[str, Any], key: str, name: str) -> int | None:
    value = table.get(key)
    if value is not None and (type(value) is not int or value < 0):
        raise InputError(f"{name}: {key} must be a number of days", hint="correct the file")
    return value


def _size(table: dict[str, Any], key: str, name: str) -> int | None:
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputError(f"{name}: {key} must be a text", hint='for example "700M"')
    try:
        return parse_size(value)
    except InputError as error:
        error.add_subject(f"{name}: {key}")
        raise
