"""The software bill of materials, `sbom.cdx.json`: CycloneDX 1.6. Pure: manifest and METADATA in.

Each wheel is a component with its purl, digest, licence and origin. Each script on each target is
one that depends on the packages it requires, and so on. A wheel that needs different wheels in
different locks (markers differ between platforms) appears once for each such set, so that the graph
is true for every target.

Every difference archive contains the whole SBOM, so it repeats nothing: the graph shows which locks
need a wheel, its reference is its path, and a download has the digest of the component unless the
wheel was built.

Importing cyclonedx takes a third of a second: import this module only where it is needed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple
from uuid import NAMESPACE_OID, UUID, uuid5

from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.contact import OrganizationalContact, OrganizationalEntity
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.spdx import fixup_id, is_expression
from packageurl import PackageURL

from offline_bundle.wheelhouse.derived.audit_result import INTERPRETER, Audit, Package
from offline_bundle.wheelhouse.derived.complete import INVENTORIES
from offline_bundle.wheelhouse.derived.requirement_graph import LockGraph, lock_graph
from offline_bundle.wheelhouse.derived.sbom.vulnerabilities import vulnerabilities
from offline_bundle.wheelhouse.derived.wheel_metadata import (
    WheelMetadata,
    read_all_metadata,
    wheel_name,
)
from offline_bundle.wheelhouse.runtime.bundle.manifest import BundledFile, Manifest

_INTERPRETER_FOLDER = "python"
_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]+")


def render_sbom(
    manifest: Manifest, metadata: Mapping[str, bytes], audit: Audit | None = None
) -> bytes:
    """Render the SBOM; *metadata* has each wheel's METADATA by the wheel's path.

    It has `vulnerabilities` if an *audit* checked for them.

    The same manifest gives the same bytes: the serial number is derived from it, and the time is
    the manifest's. Entries of the inventories themselves are ignored.
    """
    facts = read_all_metadata(manifest, metadata)
    graphs = {
        (script, target): lock_graph(manifest, script, target, facts)
        for script, target, _ in manifest.locks()
    }
    bundle = Component(
        name=", ".join(sorted(manifest.scripts)) or "empty", type=ComponentType.APPLICATION
    )
    bundle.bom_ref.value = "bundle"
    wheels, needs = _wheels(manifest, facts, _Variants(manifest, graphs))
    programs = [_program(path, file) for path, file in _programs(manifest)]
    locks = [_lock(manifest, script, target) for script, target in graphs]
    required = [[wheels[key, name] for name in graph.roots] for key, graph in graphs.items()]
    references = _references_by_package([*programs, *(component for component, _ in needs)])
    # cyclonedx keeps sorted sets, which compare components: fill each in one go.
    bom = Bom(
        serial_number=_serial_number(manifest),
        metadata=BomMetaData(
            component=bundle,
            timestamp=datetime.fromisoformat(manifest.timestamp),
            tools=ToolRepository(components=[_tool(manifest)]),
        ),
        components=[*locks, *programs, *(component for component, _ in needs)],
        vulnerabilities=vulnerabilities(audit, references) if audit and audit.sources else [],
        dependencies=[
            _dependency(bundle, [*locks, *programs]),
            *map(_dependency, locks, required),
            *(_dependency(component, others) for component, others in needs),
            *(_dependency(program, []) for program in programs),
        ],
    )
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    return (json.dumps(document, separators=(",", ":")) + "\n").encode("ascii")


def _references_by_package(components: Iterable[Component]) -> dict[Package, list[str]]:
    references: dict[Package, list[str]] = {}
    for component in components:
        name = INTERPRETER if component.name == _INTERPRETER_FOLDER else component.name
        package = Package(name, component.version or "")
        references.setdefault(package, []).append(component.bom_ref.value or "")
    return references


_LockKey = tuple[str, str]
_Node = tuple[_LockKey, str]


class _Variant(NamedTuple):
    """A wheel with the packages it needs in some locks."""

    wheel: str
    group: int


class _Variants:
    """Groups of (lock, package) pairs that are one component: same wheel, same needs throughout.

    By partition refinement: start with one group per wheel, and split groups whose members need
    members of different groups until none is split. This handles circular requirements, too.
    """

    def __init__(self, manifest: Manifest, graphs: Mapping[_LockKey, LockGraph]) -> None:
        self._graphs = graphs
        self._wheel_of = {
            (key, name): package.wheel
            for key in graphs
            for name, package in manifest.scripts[key[0]].locks[key[1]].packages.items()
        }
        groups = _numbered(dict(self._wheel_of))
        while len(set((finer := self._refined(groups)).values())) > len(set(groups.values())):
            groups = finer
        self.of: dict[_Node, _Variant] = {
            node: _Variant(self._wheel_of[node], groups[node]) for node in self._wheel_of
        }

    def needs(self) -> dict[_Variant, list[_Variant]]:
        """Return the variants that each variant needs."""
        return {
            self.of[key, name]: [self.of[key, other] for other in self._graphs[key].needs[name]]
            for key, name in self._wheel_of
        }

    def _refined(self, groups: Mapping[_Node, int]) -> dict[_Node, int]:
        return _numbered(
            {
                (key, name): (
                    group,
                    *sorted(groups[key, other] for other in self._graphs[key].needs[name]),
                )
                for (key, name), group in groups.items()
            }
        )


def _numbered(values: Mapping[_Node, object]) -> dict[_Node, int]:
    numbers: dict[object, int] = {}
    return {node: numbers.setdefault(value, len(numbers)) for node, value in values.items()}


def _wheels(
    manifest: Manifest, facts: Mapping[str, WheelMetadata], variants: _Variants
) -> tuple[dict[_Node, Component], list[tuple[Component, list[Component]]]]:
    """Return the component of each (lock, package), and each component with those it needs."""
    needs = variants.needs()
    unneeded = facts.keys() - {variant.wheel for variant in needs}
    components: dict[_Variant, Component] = {}
    numbers: Counter[str] = Counter()
    for variant in [*needs, *(_Variant(path, -1) for path in sorted(unneeded))]:
        numbers[variant.wheel] += 1
        number = numbers[variant.wheel]
        reference = variant.wheel if number == 1 else f"{variant.wheel}#{number}"
        components[variant] = _wheel(
            reference, variant.wheel, manifest.files[variant.wheel], facts[variant.wheel]
        )
    graph = [
        (component, [components[other] for other in needs.get(variant, ())])
        for variant, component in components.items()
    ]
    return {node: components[variant] for node, variant in variants.of.items()}, graph


def _dependency(component: Component, others: Iterable[Component]) -> Dependency:
    return Dependency(component.bom_ref, [Dependency(other.bom_ref) for other in others])


def _tool(manifest: Manifest) -> Component:
    creator, _, version = manifest.created_by.rpartition(" ")
    tool = Component(name=creator or version, version=version, type=ComponentType.APPLICATION)
    tool.bom_ref.value = "tool"
    return tool


def _wheel(reference: str, path: str, file: BundledFile, facts: WheelMetadata) -> Component:
    filename = path.removeprefix("wheels/")
    name = wheel_name(path, file)
    authors = [
        OrganizationalContact(
            name=author or None, email=address if _ADDRESS.fullmatch(address) else None
        )
        for author, address in facts.authors
    ]
    supplier = next((author or address for author, address in facts.authors), None)
    return Component(
        name=name,
        version=file.version,
        type=ComponentType.LIBRARY,
        bom_ref=reference,
        description=facts.summary or None,
        purl=PackageURL("pypi", None, name, file.version, {"file_name": filename}),
        hashes=_hashes(file.sha256),
        licenses=list(_licences(facts)),
        supplier=OrganizationalEntity(name=supplier) if supplier else None,
        publisher=str(file.publisher) if file.publisher else None,
        authors=authors,
        external_references=list(_references(file, facts)),
        properties=list(_properties(file)),
    )


def _program(path: str, file: BundledFile) -> Component:
    name = file.name or path.partition("/")[0]
    return Component(
        name=name,
        version=file.version,
        type=ComponentType.APPLICATION,
        bom_ref=path,
        purl=PackageURL("pypi", None, name, file.version) if name == "uv" else None,
        hashes=_hashes(file.sha256),
        external_references=list(_references(file, WheelMetadata("", ""))),
        properties=list(_properties(file)),
    )


def _programs(manifest: Manifest) -> Iterator[tuple[str, BundledFile]]:
    """Yield the executables in the bundle: uv and interpreters."""
    versions = {uv.path: uv.version for uv in manifest.uv.values()}
    for path, file in sorted(manifest.files.items()):
        if path in versions:
            yield path, replace(file, version=file.version or versions[path])
        elif path.startswith("python/"):
            yield path, file


def _lock(manifest: Manifest, script: str, target: str) -> Component:
    entry = manifest.scripts[script]
    lock = entry.locks[target]
    details = {
        "target": target,
        "python": manifest.targets[target].python,
        "platform": manifest.targets[target].platform,
        "libc": lock.libc,
        "path": entry.path,
        "lock": lock.lock,
        "requires-python": entry.requires_python,
    }
    return Component(
        name=f"{script}.py",
        type=ComponentType.APPLICATION,
        bom_ref=f"{script}/{target}",
        hashes=_hashes(manifest.files[entry.path].sha256),
        properties=[_property(key, value) for key, value in details.items() if value],
    )


def _hashes(sha256: str | None) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else []


def _licences(facts: WheelMetadata) -> Iterator[LicenseExpression | DisjunctiveLicense]:
    """CycloneDX takes one SPDX expression, or licences by SPDX id or by name."""
    if not facts.licence:
        return
    spdx_id = fixup_id(facts.licence)
    if spdx_id:
        yield DisjunctiveLicense(id=spdx_id)
    elif facts.is_expression and is_expression(facts.licence):
        yield LicenseExpression(facts.licence)
    else:
        yield DisjunctiveLicense(name=facts.licence)


def _references(file: BundledFile, facts: WheelMetadata) -> Iterator[ExternalReference]:
    source = file.source
    if source and source.url:
        hashes = _hashes(source.built_from)
        yield ExternalReference(
            type=ExternalReferenceType.DISTRIBUTION, url=XsUri(source.url), hashes=hashes
        )
    if source and source.git:
        yield ExternalReference(
            type=ExternalReferenceType.VCS, url=XsUri(source.git), comment=source.commit
        )
    if facts.homepage:
        yield ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(facts.homepage))


def _properties(file: BundledFile) -> Iterable[Property]:
    source = file.source
    details = {
        "size": str(file.size),
        "index": source.index if source else None,
        "local-path": source.path if source else None,
        "built-from": source.built_from if source else None,
        "upload-time": file.upload_time,
    }
    properties = [_property(key, value) for key, value in details.items() if value]
    if file.yanked is not None:
        properties.append(_property("yanked", file.yanked or "no reason given"))
    return properties


def _property(key: str, value: str) -> Property:
    return Property(name=f"offline-bundle:{key}", value=value)


def _serial_number(manifest: Manifest) -> UUID:
    files = {path: file for path, file in manifest.files.items() if path not in INVENTORIES}
    return uuid5(
        NAMESPACE_OID, hashlib.sha256(replace(manifest, files=files).to_json()).hexdigest()
    )
