"""The report for reviewers, `report.html`: one self-contained page without scripts. Pure.

    render_report(manifest, {"wheels/numpy-….whl": metadata}, before=previous_manifest)

The same input gives the same bytes. Package metadata is untrusted: the template escapes every text,
characters that are not printable become U+FFFD, and the page's policy forbids to load anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from offline_bundle.wheelhouse.derived.audit_result import Audit
from offline_bundle.wheelhouse.derived.complete import INVENTORIES
from offline_bundle.wheelhouse.derived.diff import BundleDiff, diff
from offline_bundle.wheelhouse.derived.report.review import publishers, severity_colour, verdicts
from offline_bundle.wheelhouse.derived.wheel_metadata import (
    WheelMetadata,
    describe_source,
    read_all_metadata,
    wheel_name,
)
from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    BundledLock,
    Manifest,
    Source,
)
from offline_bundle.wheelhouse.runtime.names import CHECKSUMS, DATA
from offline_bundle.wheelhouse.runtime.python.platforms import parse_platform
from offline_bundle.wheelhouse.runtime.sizes import count, format_size

_FOLDER = Path(__file__).parent
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_LONG_TABLE = 40
"""A table of changed packages with more rows is collapsed."""
_YANKED, _BUILT, _UNUSED = "yanked", "built from source", "needed by nothing"
_SEVERAL, _NO_LICENCE = "several versions", "no licence given"
# Finding -> its colour and reason; in the order of the page.
_FINDINGS = {
    _YANKED: ("bad", "its authors withdrew it from the index"),
    _BUILT: ("warn", "not a wheel of an index: built on the machine that made the bundle"),
    _SEVERAL: ("warn", "different locks have different versions"),
    _NO_LICENCE: ("warn", "its metadata has none"),
    _UNUSED: ("warn", "left from before: offline-bundle prune removes it"),
}
_OTHERS = "index, locks, scripts, launcher"
# Kind of file -> the top-level folders of its files; in the order of the page.
_KINDS: dict[str, tuple[str, ...]] = {
    "wheels": ("wheels",),
    "uv": ("uv",),
    "interpreters": ("python",),
    "bytecode": ("bytecode",),
    "cache, environments, images": ("cache", "envs", "images"),
    "data": (DATA,),
    _OTHERS: (),
}


def render_report(
    manifest: Manifest,
    metadata: Mapping[str, bytes],
    before: Manifest | None = None,
    audit: Audit | None = None,
) -> bytes:
    """Render the page.

    *metadata* has each wheel's METADATA by the wheel's path. *before* is the bundle's previous
    manifest, if any. *audit* is None if the bundle was not audited.
    """
    changes = diff(before, manifest) if before else None
    changed = changes.grouped_packages if changes else []
    packages = _packages(manifest, read_all_metadata(manifest, metadata))
    page = _template().render(
        title=f"Offline bundle: {', '.join(sorted(manifest.scripts)) or 'empty'}",
        policy=_POLICY,
        style=Markup(_asset("report.css")),  # noqa: S704 - a file of this package
        manifest=manifest,
        figures=_figures(manifest, packages),
        attention=_attention(packages),
        changes=changes,
        changed_packages=changed,
        changed_names=list(_name_lines(changes)) if changes else [],
        change_colours={"added": "good", "removed": "bad", "changed": "warn"},
        audit=audit,
        verdicts=verdicts(manifest, audit, len(changed) if changes else None),
        publishers=publishers(manifest, audit),
        long_table=_LONG_TABLE,
        state_colours={"verified": "good", "wrong": "bad"},
        sizes=_sizes(manifest),
        matrix=_matrix(manifest),
        origins=_origins(packages),
        programs=_programs(manifest),
        packages=packages,
        largest=max((package.size for package in packages), default=1),
        locks=len(list(manifest.locks())),
        licences=_licences(packages),
        no_licence=_NO_LICENCE,
        checksums=CHECKSUMS,
    )
    return f"{page}\n".encode()


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
    )
    environment.filters |= {
        "percent": _percent,
        "size": _size_of,
        "count": count,
        "origin": describe_source,
        "growth": _growth,
        "severity_colour": severity_colour,
    }
    return environment.get_template("report.html.j2")


@cache
def _asset(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _finalize(value: object) -> object:
    """Replace unprintable characters, which may change the text direction; jinja2 escapes next."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)


@dataclass(frozen=True)
class _Package:
    """One version of a package: its wheels, and the metadata of the first."""

    name: str
    version: str
    wheels: tuple[tuple[str, BundledFile], ...]
    metadata: WheelMetadata

    @property
    def size(self) -> int:
        return sum(file.size or 0 for _, file in self.wheels)

    @property
    def locks(self) -> set[str]:
        return {lock for _, file in self.wheels for lock in file.needed_by}

    @property
    def badges(self) -> Iterator[tuple[str, str]]:
        """Colour and text of each finding."""
        files = [file for _, file in self.wheels]
        findings = {
            _YANKED: any(file.yanked is not None for file in files),
            _BUILT: any(_is_built(file.source) for file in files),
            _UNUSED: not self.locks,
            _NO_LICENCE: not self.metadata.licence,
        }
        return ((_FINDINGS[text][0], text) for text, applies in findings.items() if applies)

    @property
    def about(self) -> str:
        authors = ", ".join(name or address for name, address in self.metadata.authors)
        parts = {"by": authors, "home": self.metadata.homepage}
        return ", ".join(f"{label} {text}" for label, text in parts.items() if text)

    @staticmethod
    def notes(file: BundledFile, locks: int) -> str:
        """Return other facts of a wheel; not its URL: that is in the manifest, and long."""
        notes = [f"{_size_of(file.size)}, from {describe_source(file.source)}"]
        if file.upload_time:
            notes.append(f"uploaded {file.upload_time}")
        if file.yanked is not None:
            notes.append(f"yanked: {file.yanked or 'no reason given'}")
        if file.source and file.source.built_from:
            notes.append(f"built from sha256 {file.source.built_from}")
        if 0 < len(file.needed_by) < locks:
            notes.append(f"needed by {', '.join(file.needed_by)}")
        return "; ".join(notes)


def _packages(manifest: Manifest, metadata: Mapping[str, WheelMetadata]) -> list[_Package]:
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in metadata:
        file = manifest.files[path]
        groups[wheel_name(path, file), file.version or ""].append(path)
    return [
        _Package(
            name, version, tuple((path, manifest.files[path]) for path in paths), metadata[paths[0]]
        )
        for (name, version), paths in sorted(groups.items())
    ]


def _figures(manifest: Manifest, packages: Sequence[_Package]) -> list[tuple[str, str]]:
    numbers = {
        "script": len(manifest.scripts),
        "target": len(manifest.targets),
        "package": len({package.name for package in packages}),
        "wheel": sum(len(package.wheels) for package in packages),
        "file": len(manifest.files.keys() | INVENTORIES),  # this page is one of them
    }
    figures = [(format_size(manifest.size), "without this page and the SBOM")]
    for noun, number in numbers.items():
        text, _, label = count(number, noun).partition(" ")
        figures.append((text, label))
    return figures


def _attention(packages: Sequence[_Package]) -> list[dict[str, Any]]:
    by_finding: dict[str, list[_Package]] = defaultdict(list)
    by_name: dict[str, list[_Package]] = defaultdict(list)
    for package in packages:
        by_name[package.name].append(package)
        for _, text in package.badges:
            by_finding[text].append(package)
    for versions in by_name.values():
        needed = [package for package in versions if package.locks]  # not those of a lock before
        by_finding[_SEVERAL] += needed if len(needed) > 1 else []
    return [
        {"colour": colour, "text": text, "reason": reason, "packages": by_finding[text]}
        for text, (colour, reason) in _FINDINGS.items()
        if by_finding[text]
    ]


def _name_lines(changes: BundleDiff) -> Iterator[str]:
    groups = {
        "script": changes.scripts,
        "target": changes.targets,
        "lock": changes.locks,
        "uv for": changes.uv,
        "interpreter for": changes.pythons,
    }
    for noun, names in groups.items():
        for kind in ("added", "removed", "changed"):
            group = getattr(names, kind)
            # the packages of a changed lock show that
            if group and (noun, kind) != ("lock", "changed"):
                yield f"{noun} {kind}: {', '.join(group)}"


def _sizes(manifest: Manifest) -> list[dict[str, Any]]:
    kind_of = {folder: kind for kind, folders in _KINDS.items() for folder in folders}
    sizes = dict.fromkeys(_KINDS, 0)
    for path, file in manifest.files.items():
        folder = "" if path.endswith(".metadata") else path.partition("/")[0]
        sizes[kind_of.get(folder, _OTHERS)] += file.size or 0
    total = sum(sizes.values())
    return [
        {"colour": colour, "kind": kind, "size": size, "width": _percent(size, total)}
        for colour, (kind, size) in zip("abcdefg", sizes.items(), strict=True)
        if size
    ]


def _matrix(manifest: Manifest) -> list[tuple[str, list[dict[str, str] | None]]]:
    targets = sorted(manifest.targets)
    return [
        (name, [_cell(manifest, target, script.locks.get(target)) for target in targets])
        for name, script in sorted(manifest.scripts.items())
    ]


def _cell(manifest: Manifest, target: str, lock: BundledLock | None) -> dict[str, str] | None:
    if lock is None:
        return None
    size = format_size(_total(manifest.files[p.wheel] for p in lock.packages.values()))
    is_linux = parse_platform(manifest.targets[target].platform).system == "Linux"
    floor = f", libc {lock.libc} or newer" if lock.libc and is_linux else ""
    return {"packages": count(len(lock.packages), "package"), "details": f"{size}{floor}"}


def _origins(packages: Iterable[_Package]) -> list[dict[str, Any]]:
    names: dict[str, set[str]] = defaultdict(set)
    files: dict[str, list[BundledFile]] = defaultdict(list)
    for package in packages:
        for _, file in package.wheels:
            names[describe_source(file.source)].add(package.name)
            files[describe_source(file.source)].append(file)
    largest = max(map(_total, files.values()), default=1)
    return [
        {
            "name": origin,
            "packages": len(names[origin]),
            "wheels": len(files[origin]),
            "size": _total(files[origin]),
            "width": _percent(_total(files[origin]), largest),
        }
        for origin in sorted(files)
    ]


def _programs(manifest: Manifest) -> list[dict[str, Any]]:
    programs: list[dict[str, Any]] = [
        {"name": f"uv {uv.version}", "platform": platform, "file": manifest.files[uv.path]}
        for platform, uv in sorted(manifest.uv.items())
    ]
    for path, file in sorted(manifest.files.items()):
        if path.startswith("python/"):
            name = f"{file.name or 'Python'} {file.version or ''}"
            programs.append({"name": name, "platform": path.removeprefix("python/"), "file": file})
    return programs


def _licences(packages: Iterable[_Package]) -> list[tuple[str, list[str]]]:
    groups: dict[str, dict[str, None]] = defaultdict(dict)
    for package in packages:
        groups[package.metadata.licence or "not given"][package.name] = None
    return sorted(
        ((licence, list(names)) for licence, names in groups.items()),
        key=lambda group: (-len(group[1]), group[0]),
    )


def _is_built(source: Source | None) -> bool:
    return source is not None and bool(source.built_from or source.git or source.path)


def _growth(size: int) -> str:
    sign = "+" if size >= 0 else "\N{MINUS SIGN}"
    return f"{sign}{format_size(abs(size))}"


def _size_of(size: int | None) -> str:
    return format_size(size or 0)


def _total(files: Iterable[BundledFile]) -> int:
    return sum(file.size or 0 for file in files)


def _percent(size: int, whole: int) -> str:
    return f"{size * 100 / max(whole, 1):.2f}"
