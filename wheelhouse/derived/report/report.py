"""The report for the reviewer, `report.html`: one page, with nothing outside of it and no script. Pure.

    render_report(manifest, {"wheels/numpy-….whl": metadata}, before=manifest_of_the_bundle_before)

The same input gives the same bytes. Package metadata is written by strangers: every text goes through `_element`, which
escapes it and shows no character that could not be printed; a policy in the page forbids it to load anything.
"""

from __future__ import annotations

import html
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.cli.output import count, megabytes
from offline_bundle.wheelhouse.derived.diff import diff
from offline_bundle.wheelhouse.derived.wheel_metadata import read_metadata, wheel_paths
from offline_bundle.wheelhouse.runtime.manifest import CHECKSUMS
from offline_bundle.wheelhouse.runtime.names import REPORT
from offline_bundle.wheelhouse.runtime.platforms import parse_platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from offline_bundle.wheelhouse.derived.diff import Names
    from offline_bundle.wheelhouse.derived.wheel_metadata import WheelMetadata
    from offline_bundle.wheelhouse.runtime.manifest import BundledFile, Manifest, Source

_VOID = {"meta", "br"}
_MOST_UNFOLDED = 40
_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --text: #1c2330; --quiet: #5b6577; --line: #dde1e8;
  --bar: #3b74c4; --a: #3b74c4; --b: #2f9e86; --c: #b5762a; --d: #8661b8; --e: #8a93a3;
  --warn-page: #fff4dc; --warn: #855000; --bad-page: #fde8e6; --bad: #a52014; --good-page: #e2f4ea; --good: #14693c; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171d; --card: #1d222b; --text: #e3e7ee; --quiet: #9aa5b6; --line: #333b48; --bar: #6ba0ea;
  --a: #6ba0ea; --b: #4fc3a8; --c: #dba35c; --d: #b79ae0; --e: #7d8797; --warn-page: #3c2f12; --warn: #f3c876;
  --bad-page: #44201d; --bad: #f6a49b; --good-page: #173626; --good: #86d9aa; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.12rem; margin: 0 0 .75rem; }
p { margin: .25rem 0 .75rem; max-width: 70ch; }
.quiet, caption, small { color: var(--quiet); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1.1rem 1.25rem;
  margin: 1.1rem 0; overflow-x: auto; }
.figures { display: flex; flex-wrap: wrap; gap: .6rem 2.4rem; }
.figures div { min-width: 6rem; }
.figures b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; line-height: 1.2; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; color: var(--quiet); font-size: .84rem; }
th, td { padding: .38rem .9rem .38rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody tr:last-child > * { border-bottom: 0; }
tbody th { color: inherit; font-size: inherit; min-width: 9rem; }
.short { white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.matrix td, .matrix thead th + th { text-align: center; }
code, pre { font: .86em/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
pre { background: var(--page); border-radius: 6px; padding: .6rem .8rem; margin: .4rem 0; white-space: pre-wrap; }
details > summary { cursor: pointer; }
details div { padding: .3rem 0 .5rem 1rem; font-size: .92em; font-weight: 400; }
.bar { height: .5rem; min-width: 2px; margin-top: .5rem; border-radius: 3px; background: var(--bar); }
.track { min-width: 10rem; }
.stack { display: flex; height: 1.1rem; gap: 2px; border-radius: 5px; overflow: hidden; margin-bottom: .6rem; }
.stack span { min-width: 2px; } .key { display: inline-block; width: .75rem; height: .75rem; border-radius: 3px; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; }
.a { background: var(--a); } .b { background: var(--b); } .c { background: var(--c); } .d { background: var(--d); }
.e { background: var(--e); }
.badge { display: inline-block; border-radius: 5px; padding: 0 .45rem; font-size: .8rem; font-weight: 600;
  white-space: nowrap; } summary .badge { margin-left: .5rem; }
.warn { background: var(--warn-page); color: var(--warn); } .bad { background: var(--bad-page); color: var(--bad); }
.good { background: var(--good-page); color: var(--good); }
ul { margin: .25rem 0; padding-left: 1.2rem; }
@media print { section { break-inside: avoid; border: 0; padding: 0; } body { background: none; } }
"""


def render_report(
    manifest: Manifest, metadata: Mapping[str, bytes], before: Manifest | None = None
) -> bytes:
    """Render the page; *metadata* has each wheel's METADATA by the wheel's path, *before* is what the bundle held."""
    packages = _packages(
        manifest, {path: read_metadata(metadata.get(path, b"")) for path in wheel_paths(manifest)}
    )
    title = f"Offline bundle: {', '.join(sorted(manifest.scripts)) or 'nothing'}"
    sections = [
        _figures(manifest, packages),
        _attention(packages),
        _changes(before, manifest) if before else _Html(""),
        _sizes(manifest),
        _scripts(manifest),
        _matrix(manifest),
        _sources(packages),
        _programs(manifest),
        _package_table(packages, sum(len(script.locks) for script in manifest.scripts.values())),
        _licences(packages),
        _checking(),
    ]
    heading = _element("h1", title)
    about = _element(
        "p", f"Made by {manifest.created_by}, as of {manifest.timestamp}.", class_="quiet"
    )
    return _page(title, _element("main", heading, about, *sections)).encode()


@dataclass(frozen=True)
class _Package:
    """One version of a package: its wheels, and what they say of themselves."""

    name: str
    version: str
    wheels: tuple[tuple[str, BundledFile], ...]
    facts: WheelMetadata

    @property
    def size(self) -> int:
        return sum(file.size or 0 for _, file in self.wheels)

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_origin(file.source) for _, file in self.wheels))

    @property
    def locks(self) -> set[str]:
        return {lock for _, file in self.wheels for lock in file.needed_by}

    @property
    def badges(self) -> Iterator[tuple[str, str]]:
        """Colour and text of what a reviewer should not miss."""
        files = [file for _, file in self.wheels]
        if any(file.yanked is not None for file in files):
            yield "bad", "yanked"
        if any(
            file.source and (file.source.built_from or file.source.git or file.source.path)
            for file in files
        ):
            yield "warn", "built from source"
        if not self.locks:
            yield "warn", "needed by nothing"
        if not self.facts.licence:
            yield "warn", "no licence given"


def _packages(manifest: Manifest, facts: Mapping[str, WheelMetadata]) -> list[_Package]:
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in facts:
        file = manifest.files[path]
        groups[
            file.name or path.removeprefix("wheels/").partition("-")[0], file.version or ""
        ].append(path)
    return [
        _Package(
            name, version, tuple((path, manifest.files[path]) for path in paths), facts[paths[0]]
        )
        for (name, version), paths in sorted(groups.items())
    ]


def _figures(manifest: Manifest, packages: Sequence[_Package]) -> _Html:
    size = sum(file.size or 0 for file in manifest.files.values())
    wheels = sum(len(package.wheels) for package in packages)
    numbers = {
        "script": len(manifest.scripts),
        "target": len(manifest.targets),
        "package": len({package.name for package in packages}),
        "wheel": wheels,
        "file": len(manifest.files),
    }
    figures = [_element("div", _element("b", megabytes(size)), "in all")]
    for noun, number in numbers.items():
        shown, _, label = count(number, noun).partition(" ")
        figures.append(_element("div", _element("b", shown), label))
    return _element("section", _element("div", *figures, class_="figures"))


def _attention(packages: Sequence[_Package]) -> _Html:
    """What to look at first."""
    found: dict[str, list[_Html]] = defaultdict(list)
    for package in packages:
        for _, text in package.badges:
            found[text].append(_named(package))
    versions: dict[str, list[_Package]] = defaultdict(list)
    for package in packages:
        versions[package.name].append(package)
    found["several versions"] = [
        _named(package) for same in versions.values() if len(same) > 1 for package in same
    ]
    if not any(found.values()):
        words = "No yanked version, nothing built from source, every package states a licence."
        return _section("To look at", _element("p", _badge("good", "nothing"), " ", words))
    explained = {
        "yanked": ("bad", "its authors withdrew it from the index"),
        "built from source": (
            "warn",
            "no wheel of an index: it was built on the machine that made the bundle",
        ),
        "several versions": ("warn", "different locks took different ones"),
        "no licence given": ("warn", "its metadata names none"),
        "needed by nothing": ("warn", "left from before: offline-bundle prune removes it"),
    }
    rows = [
        _row(_element("th", _badge(kind, text), scope="row"), why, _joined(found[text]))
        for text, (kind, why) in explained.items()
        if found[text]
    ]
    return _section("To look at", _table(("", "", "packages"), rows))


def _changes(before: Manifest, manifest: Manifest) -> _Html:
    title = "Changed since the bundle before"
    changes = diff(before, manifest)
    names = {
        "script": changes.scripts,
        "target": changes.targets,
        "lock": changes.locks,
        "uv for": changes.uv,
        "interpreter for": changes.pythons,
    }
    packages = _changed_packages(_versions(before), _versions(manifest))
    whole = [line for noun, group in names.items() for line in _named_changes(noun, group)]
    if not whole and not packages:
        return _section(title, _element("p", "No script, target or package."))
    carried = f"{_growth(changes.new_size - changes.old_size)} in all."
    parts = [_element("p", carried)]
    if whole:
        parts.append(_element("ul", *(_element("li", line) for line in whole)))
    if packages:
        table = _table(("package", "", "before", "now", ">size", "in"), packages)
        folded = _element("details", _element("summary", count(len(packages), "package")), table)
        parts.append(folded if len(packages) > _MOST_UNFOLDED else table)
    return _section(title, *parts)


@dataclass
class _Held:
    """What a bundle has of a package: its versions, the scripts that take it, and its bytes."""

    versions: dict[str, None] = field(default_factory=dict)
    scripts: dict[str, None] = field(default_factory=dict)
    size: int = 0


def _versions(manifest: Manifest) -> dict[str, _Held]:
    held: dict[str, _Held] = defaultdict(_Held)
    for path in wheel_paths(manifest):
        file = manifest.files[path]
        package = held[file.name or path]
        package.versions[file.version or ""] = None
        package.scripts |= {lock.partition("/")[0]: None for lock in file.needed_by}
        package.size += file.size or 0
    return held


def _changed_packages(before: Mapping[str, _Held], now: Mapping[str, _Held]) -> list[_Html]:
    """Packages of which the bundle holds other versions than before; other wheels of the same ones are no change."""
    rows = []
    for name in sorted(before.keys() | now.keys()):
        was, is_now = before.get(name, _Held()), now.get(name, _Held())
        if was.versions.keys() == is_now.versions.keys():
            continue
        kind, colour = (
            ("changed", "warn") if was.versions and is_now.versions else ("removed", "bad")
        )
        kind, colour = (kind, colour) if was.versions else ("added", "good")
        rows.append(
            _row(
                _element("th", name, scope="row"),
                _badge(colour, kind),
                ", ".join(was.versions),
                ", ".join(is_now.versions),
                _number(_growth(is_now.size - was.size)),
                ", ".join(sorted(is_now.scripts or was.scripts)),
            )
        )
    return rows


def _growth(size: int) -> str:
    return f"{'+' if size >= 0 else chr(0x2212)}{megabytes(abs(size))}"


def _named_changes(noun: str, names: Names) -> Iterator[str]:
    for kind, group in (
        ("added", names.added),
        ("removed", names.removed),
        ("changed", names.changed),
    ):
        if group and not (noun == "lock" and kind == "changed"):
            yield f"{noun} {kind}: {', '.join(group)}"


def _sizes(manifest: Manifest) -> _Html:
    kinds = {
        "wheels": 0,
        "uv": 0,
        "interpreters": 0,
        "cache and environments": 0,
        "index, locks, scripts": 0,
    }
    ready = "cache and environments"
    for path, file in manifest.files.items():
        top = path.partition("/")[0] if not path.endswith(".metadata") else ""
        known = {
            "wheels": "wheels",
            "uv": "uv",
            "python": "interpreters",
            "cache": ready,
            "envs": ready,
        }
        kind = known.get(top, "index, locks, scripts")
        kinds[kind] += file.size or 0
    whole = sum(kinds.values()) or 1
    shown = [
        (colour, kind, size)
        for colour, (kind, size) in zip("abcde", kinds.items(), strict=True)
        if size
    ]
    bar = [
        _element("span", class_=colour, style=f"width:{size * 100 / whole:.2f}%")
        for colour, _, size in shown
    ]
    legend = [
        _element("span", _element("span", class_=f"key {colour}"), f" {kind} {megabytes(size)}")
        for colour, kind, size in shown
    ]
    return _section(
        "Sizes", _element("div", *bar, class_="stack"), _element("div", *legend, class_="legend")
    )


def _scripts(manifest: Manifest) -> _Html:
    rows = [
        _row(
            _element("th", _element("code", script.path), scope="row"),
            script.requires_python or "any",
            _element("code", ", ".join(script.dependencies) or "none"),
            _element("code", f"{manifest.files[script.path].sha256}"),
        )
        for _, script in sorted(manifest.scripts.items())
    ]
    return _section("Scripts", _table(("script", "Python", "asks for", "sha256"), rows))


def _matrix(manifest: Manifest) -> _Html:
    targets = sorted(manifest.targets)
    rows = []
    for name, script in sorted(manifest.scripts.items()):
        cells: list[_Html | str] = []
        for target in targets:
            lock = script.locks.get(target)
            if lock is None:
                cells.append(_element("span", "\N{EN DASH}", class_="quiet"))
                continue
            size = sum(
                manifest.files[package.wheel].size or 0 for package in lock.packages.values()
            )
            has_libc = parse_platform(manifest.targets[target].platform)[0] == "Linux"
            floor = f", libc {lock.libc} or newer" if lock.libc and has_libc else ""
            details = f"{megabytes(size)}{floor}"
            cells.append(
                _joined(
                    [_Html(count(len(lock.packages), "package")), _element("small", details)],
                    "<br>",
                )
            )
        rows.append(_row(_element("th", name, scope="row"), *cells))
    heads = [
        _joined(
            [
                _element("span", manifest.targets[t].python),
                _element("code", manifest.targets[t].platform),
            ],
            "<br>",
        )
        for t in targets
    ]
    return _section(
        "Scripts \N{MULTIPLICATION SIGN} targets", _table(("script", *heads), rows, class_="matrix")
    )


def _sources(packages: Sequence[_Package]) -> _Html:
    groups: dict[str, list[tuple[_Package, BundledFile]]] = defaultdict(list)
    for package in packages:
        for _, file in package.wheels:
            groups[_origin(file.source)].append((package, file))
    largest = max((sum(f.size or 0 for _, f in group) for group in groups.values()), default=1)
    rows = [
        _row(
            _element("th", _element("code", origin), scope="row"),
            _number(f"{len({package.name for package, _ in group})}"),
            _number(f"{len(group)}"),
            _number(megabytes(size := sum(file.size or 0 for _, file in group))),
            _bar(size, largest),
        )
        for origin, group in sorted(groups.items())
    ]
    return _section(
        "Where it comes from",
        _table(("index or source", ">packages", ">wheels", ">size", ""), rows),
    )


def _programs(manifest: Manifest) -> _Html:
    rows = [
        _row(
            _element("th", f"uv {uv.version}", scope="row"),
            _element("code", platform),
            _number(megabytes(manifest.files[uv.path].size or 0)),
            _element("code", _origin(manifest.files[uv.path].source)),
            _element("code", f"{manifest.files[uv.path].sha256}"),
        )
        for platform, uv in sorted(manifest.uv.items())
    ]
    rows += [
        _row(
            _element("th", f"{file.name or 'Python'} {file.version or ''}", scope="row"),
            _element("code", path.removeprefix("python/")),
            _number(megabytes(file.size or 0)),
            _element("code", _origin(file.source)),
            _element("code", f"{file.sha256}"),
        )
        for path, file in sorted(manifest.files.items())
        if path.startswith("python/")
    ]
    if not rows:
        return _section("uv and interpreters", _element("p", "None: a node brings its own."))
    return _section(
        "uv and interpreters", _table(("program", "for", ">size", "from", "sha256"), rows)
    )


def _package_table(packages: Sequence[_Package], locks: int) -> _Html:
    largest = max((package.size for package in packages), default=1)
    rows = []
    for package in packages:
        needed = len(package.locks)
        rows.append(
            _row(
                _element("th", _details(package, locks), scope="row"),
                package.version,
                package.facts.licence or _element("span", "not given", class_="quiet"),
                "all"
                if needed == locks
                else _element("span", f"{needed} of {locks}", class_="short"),
                _number(megabytes(package.size)),
                _bar(package.size, largest),
            )
        )
    heads = ("package", "version", "licence", "locks", ">size", "")
    return _section("Packages", _table(heads, rows))


def _details(package: _Package, locks: int) -> _Html:
    badges = [_badge(colour, text) for colour, text in package.badges if text != "no licence given"]
    lines: list[_Html] = []
    if package.facts.summary:
        lines.append(_element("p", package.facts.summary))
    people = [name or address for name, address in package.facts.authors]
    about = {"by": ", ".join(people), "home": package.facts.homepage}
    written = ", ".join(f"{label} {text}" for label, text in about.items() if text)
    if written:
        lines.append(_element("p", written, class_="quiet"))
    for path, file in package.wheels:
        details = [
            _element("code", path),
            _element("code", f"sha256 {file.sha256}"),
            _wheel_notes(file, locks),
        ]
        lines.append(_element("p", _joined(details, "<br>")))
    return _element("details", _element("summary", package.name, *badges), _element("div", *lines))


def _wheel_notes(file: BundledFile, locks: int) -> _Html:
    """The rest of what is known of a wheel; not its URL: the manifest has it, and this travels each time."""
    notes = [
        f"{megabytes(file.size or 0)}, from {_origin(file.source)}",
        f"uploaded {file.upload_time}" if file.upload_time else "",
        f"yanked: {file.yanked or 'no reason given'}" if file.yanked is not None else "",
        f"built from sha256 {file.source.built_from}"
        if file.source and file.source.built_from
        else "",
        f"needed by {', '.join(file.needed_by)}" if 0 < len(file.needed_by) < locks else "",
    ]
    return _element("small", "; ".join(filter(None, notes)))


def _licences(packages: Sequence[_Package]) -> _Html:
    groups: dict[str, list[_Package]] = defaultdict(list)
    for package in packages:
        groups[package.facts.licence or "not given"].append(package)
    rows = [
        _row(
            _element("th", licence, scope="row"),
            _number(f"{len({package.name for package in group})}"),
            ", ".join(dict.fromkeys(package.name for package in group)),
        )
        for licence, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    note = _element(
        "p", "As the packages state them in their metadata; nobody has checked.", class_="quiet"
    )
    return _section("Licences", note, _table(("licence", ">packages", ""), rows))


def _checking() -> _Html:
    ways = [
        (
            "With coreutils alone: every file is what the bundle's maker listed.",
            f"sha256sum -c --quiet {CHECKSUMS}",
        ),
        (
            "With OpenSSH alone: the list is the maker's.",
            "ssh-keygen -Y verify -n offline-bundle -I WHO -f ALLOWED_SIGNERS -s bundle.json.sig < bundle.json",
        ),
        (
            "With offline-bundle: both, and that there is no file besides.",
            "offline-bundle verify . --allowed-signers ALLOWED_SIGNERS",
        ),
    ]
    note = f"{REPORT} is one of those files: it is worth what they are."
    parts = [
        part for text, command in ways for part in (_element("p", text), _element("pre", command))
    ]
    return _section("How to check it", *parts, _element("p", note, class_="quiet"))


def _origin(source: Source | None) -> str:
    if source is None:
        return "unknown"
    if source.git:
        return f"git {source.git} at {(source.commit or 'an unknown commit')[:12]}"
    if source.path:
        return f"local {source.path}"
    return source.index or source.url or "unknown"


class _Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def _element(name: str, /, *children: str, **attributes: str) -> _Html:
    """One element; children that are not `_Html` are escaped, and so is every attribute."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_text(value)}"'
        for key, value in attributes.items()
    )
    if name in _VOID:
        return _Html(f"<{name}{written}>")
    inner = "".join(child if isinstance(child, _Html) else _text(child) for child in children)
    return _Html(f"<{name}{written}>{inner}</{name}>")


def _text(text: str) -> str:
    """Escape *text*; what cannot be printed, or would turn the reading direction, becomes a mark."""
    return html.escape(
        "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    )


def _joined(parts: Iterable[_Html], separator: str = ", ") -> _Html:
    return _Html(separator.join(parts))


def _section(title: str, *children: _Html) -> _Html:
    return _element("section", _element("h2", title), *children)


def _table(heads: Sequence[str], rows: Iterable[_Html], **attributes: str) -> _Html:
    """A head that begins with `>` stands over numbers."""
    cells = [
        _element("th", head.removeprefix(">"), scope="col", class_="number")
        if head.startswith(">")
        else _element("th", head, scope="col")
        for head in heads
    ]
    head = _element("thead", _element("tr", *cells))
    return _element("table", head, _element("tbody", _joined(rows, "\n")), **attributes)


def _row(*cells: str) -> _Html:
    written = [
        cell
        if isinstance(cell, _Html) and cell.startswith(("<td", "<th"))
        else _element("td", cell)
        for cell in cells
    ]
    return _element("tr", *written)


def _number(text: str) -> _Html:
    return _element("td", text, class_="number")


def _bar(size: int, largest: int) -> _Html:
    width = f"width:{size * 100 / max(largest, 1):.2f}%"
    return _element("td", _element("div", class_="bar", style=width), class_="track")


def _badge(colour: str, text: str) -> _Html:
    return _element("span", text, class_=f"badge {colour}")


def _named(package: _Package) -> _Html:
    return _element("span", f"{package.name} {package.version}")


def _page(title: str, body: _Html) -> str:
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    head = [
        _element("meta", charset="utf-8"),
        _element("meta", http_equiv="Content-Security-Policy", content=policy),
        _element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        _element("meta", name="referrer", content="no-referrer"),
        _element("title", title),
        _Html(f"<style>{_STYLE}</style>"),
    ]
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        *head,
        "</head>",
        "<body>",
        body,
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"
