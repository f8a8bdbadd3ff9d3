"""Pruning: a bundle without what no script needs any more.

    prune(Path("bundle"), drop_scripts=["old"], grace=timedelta(days=1))

A job that is just starting may have read the manifest before, and go on to read what it named. So files go in two
steps. First nothing needs them: they stay in place and in the manifest, which says so, and the bundle verifies. When
they have been so for the grace period, the manifest names them no more, and then they are removed. Since when they are
unneeded stands in `.writer/retired.json`, which only the writer reads; where that says nothing, it is since the
manifest was last changed, by the one time of a file that nobody can set (ctime). Too late is harmless, too early not.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.derived.facts import INVENTORIES, machine_of
from offline_bundle.wheelhouse.derived.index_pages import INDEX, described, render_index, with_needs
from offline_bundle.wheelhouse.derived.inventories import add_inventories, metadata_of
from offline_bundle.wheelhouse.derived.python_downloads import DOWNLOADS, render_downloads
from offline_bundle.wheelhouse.runtime.errors import InputError, SignatureError, translate_os_errors
from offline_bundle.wheelhouse.runtime.manifest import MANIFEST, SIGNATURE, WRITER, read_manifest
from offline_bundle.wheelhouse.signing import commit_signed
from offline_bundle.wheelhouse.store.writer import BundleWriter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from offline_bundle.wheelhouse.runtime.manifest import BundledLock, BundledScript, Manifest

DEFAULT_GRACE = timedelta(days=1)
RETIRED = f"{WRITER}/retired.json"
_PRUNED = ("wheels/", "locks/", "scripts/", "uv/", "python/", "cache/", "envs/")


@dataclass(frozen=True, kw_only=True)
class PruneReport:
    """What was, or with a dry run would be, removed."""

    scripts: tuple[str, ...]
    """Dropped: by name, or because no target is left to them."""
    targets: tuple[str, ...]
    removed: tuple[str, ...]
    """Paths."""
    freed: int
    """Their bytes."""
    waiting: Mapping[str, str]
    """Path -> the time (UTC) from which pruning removes it: unneeded, but not for long enough."""
    waiting_size: int
    is_dry_run: bool
    changed: bool
    """Whether the bundle is, or would be, another one."""


def prune(  # noqa: PLR0913
    directory: Path,
    *,
    drop_scripts: Collection[str] = (),
    drop_targets: Collection[str] = (),
    grace: timedelta = DEFAULT_GRACE,
    is_dry_run: bool = False,
    key: str | None = None,
    may_lose_signature: bool = False,
) -> PruneReport:
    """Remove what no script of the bundle at *directory* needs, and the named scripts and targets.

    A signed bundle must be signed anew, with *key*, or may lose its signature. Raises InputError (2) for names that are
    not there, SignatureError (6), and what `BundleWriter` raises. With *is_dry_run* nothing is written.
    """
    if is_dry_run:
        plan = _Plan(directory, read_manifest(directory), drop_scripts, drop_targets, grace)
        return plan.report(changed=plan.manifest != plan.before, is_dry_run=True)
    read_manifest(directory)
    with BundleWriter(directory) as writer:
        plan = _Plan(directory, read_manifest(directory), drop_scripts, drop_targets, grace)
        if plan.manifest != plan.before:
            _refuse_unsigned(directory, key, is_fine=may_lose_signature)
        manifest, contents = plan.compose()
        changed = (
            commit_signed(writer, manifest, contents, key)
            if key
            else writer.commit(manifest, contents)
        )
        plan.note()
        return plan.report(changed=changed, is_dry_run=False)


def drop(manifest: Manifest, scripts: Collection[str], targets: Collection[str]) -> Manifest:
    """Leave out *scripts*, *targets*, and scripts that no target is left to; their files stay. Pure.

    Raises InputError for names that are not there, naming what is, and when nothing would be left.
    """
    problems = [
        *(
            f"there is no script {name}; there are: {_listed(manifest.scripts)}"
            for name in _other(scripts, manifest.scripts)
        ),
        *(
            f"there is no target {name}; there are: {_listed(manifest.targets)}"
            for name in _other(targets, manifest.targets)
        ),
    ]
    if problems:
        raise InputError(
            "the bundle does not hold what is to be dropped",
            problems=problems,
            hint="correct the names",
        )
    kept: dict[str, BundledScript] = {}
    for name, script in manifest.scripts.items():
        locks: dict[str, BundledLock] = {
            target: lock for target, lock in script.locks.items() if target not in targets
        }
        if name not in scripts and locks:
            kept[name] = replace(script, locks=locks)
    if manifest.scripts and not kept:
        raise InputError(
            "nothing would be left of the bundle", hint="to be rid of all of it, remove its folder"
        )
    used = {target for script in kept.values() for target in script.locks}
    machines = {machine_of(manifest.targets[target].platform) for target in used}
    return replace(
        manifest,
        scripts=kept,
        targets={name: target for name, target in manifest.targets.items() if name in used},
        uv={
            platform: uv for platform, uv in manifest.uv.items() if machine_of(platform) in machines
        },
        pythons={name: python for name, python in manifest.pythons.items() if name in used},
        files=with_needs(manifest.files, kept),
    )


def unneeded(manifest: Manifest) -> set[str]:
    """Name the files of scripts and locks, uv, interpreters and forms that nothing in *manifest* refers to. Pure.

    What is in a cache only uv knows: it stays, or goes, as a whole.
    """
    needed = {uv.path for uv in manifest.uv.values()} | {
        python.path for python in manifest.pythons.values()
    }
    folders = []
    for script in manifest.scripts.values():
        needed.add(script.path)
        for lock in script.locks.values():
            needed |= {lock.lock, lock.requirements}
            folders += ["cache/"] if lock.cache else []
            folders += [f"{lock.environment}/"] if lock.environment else []
            for package in lock.packages.values():
                needed |= {package.wheel, f"{package.wheel}.metadata"}
    held = tuple(folders)
    return {p for p in manifest.files if p.startswith(_PRUNED) and not p.startswith(held)} - needed


def without(manifest: Manifest, paths: Collection[str]) -> tuple[Manifest, dict[str, bytes]]:
    """Leave *paths* out of the manifest and render its index anew: the manifest, and the pages' contents. Pure."""
    files = {
        p: file for p, file in manifest.files.items() if p not in paths and not p.startswith(INDEX)
    }
    files.pop(DOWNLOADS, None)
    pages = {**render_index(files), **render_downloads(manifest.pythons, manifest.targets, files)}
    return replace(
        manifest, files={**files, **{path: described(page) for path, page in pages.items()}}
    ), pages


class _Plan:
    """What a prune is to do: worked out from a manifest and the times, before anything is written."""

    def __init__(
        self,
        directory: Path,
        before: Manifest,
        drop_scripts: Collection[str],
        drop_targets: Collection[str],
        grace: timedelta,
    ) -> None:
        self._directory = directory
        self.before = before
        dropped = drop(before, drop_scripts, drop_targets)
        now = datetime.now(UTC)
        self._since = _since(directory, now, before=unneeded(before), after=unneeded(dropped))
        self._ripe = {path: since + grace for path, since in self._since.items()}
        self._removed = sorted(path for path, ripe in self._ripe.items() if ripe <= now)
        self.manifest, self._pages = (
            without(dropped, set(self._removed)) if self._removed else (dropped, {})
        )

    def compose(self) -> tuple[Manifest, dict[str, bytes]]:
        """The manifest to commit, and the contents that are new: pages, and inventories where the bundle has them."""
        if not self.before.files.keys() & INVENTORIES or self.manifest == self.before:
            return self.manifest, dict(self._pages)
        manifest, inventories = add_inventories(
            self.manifest, lambda: metadata_of(self.manifest, {}, self._directory), self.before
        )
        return manifest, {**self._pages, **inventories}

    def note(self) -> None:
        """Note since when files are unneeded. After the commit: a kill before leaves the commit's own time to go by."""
        place = self._directory / RETIRED
        times = {
            path: _iso(since)
            for path, since in sorted(self._since.items())
            if path not in self._removed
        }
        with translate_os_errors(self._directory):
            if not times:
                place.unlink(missing_ok=True)
                return
            staged = place.with_name(f"{place.name}.new")
            staged.write_text(json.dumps(times, indent=1) + "\n", encoding="utf-8")
            staged.replace(place)

    def report(self, *, changed: bool, is_dry_run: bool) -> PruneReport:
        files = self.before.files
        waiting = {
            path: _iso(ripe)
            for path, ripe in sorted(self._ripe.items())
            if path not in self._removed
        }
        return PruneReport(
            scripts=tuple(sorted(self.before.scripts.keys() - self.manifest.scripts.keys())),
            targets=tuple(sorted(self.before.targets.keys() - self.manifest.targets.keys())),
            removed=tuple(self._removed),
            freed=sum(files[path].size or 0 for path in self._removed),
            waiting=waiting,
            waiting_size=sum(files[path].size or 0 for path in waiting),
            is_dry_run=is_dry_run,
            changed=changed,
        )


def _since(
    directory: Path, now: datetime, *, before: Collection[str], after: Collection[str]
) -> dict[str, datetime]:
    """Since when each path of *after* is unneeded: as noted; those of *before* at the latest since the last commit."""
    noted = _read_notes(directory)
    committed = datetime.fromtimestamp((directory / MANIFEST).stat().st_ctime, UTC)
    times: dict[str, datetime] = defaultdict(lambda: now)
    times |= dict.fromkeys(before, min(committed, now))
    times |= {path: min(since, now) for path, since in noted.items() if path in before}
    return {path: times[path] for path in after}


def _read_notes(directory: Path) -> dict[str, datetime]:
    """Nothing where there are no notes, or garbled ones: then the grace period begins anew."""
    try:
        document = json.loads((directory / RETIRED).read_text(encoding="utf-8"))
        return {
            path: datetime.fromisoformat(time).astimezone(UTC) for path, time in document.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _refuse_unsigned(directory: Path, key: str | None, *, is_fine: bool) -> None:
    if (directory / SIGNATURE).exists() and not key and not is_fine:
        raise SignatureError(
            f"{directory} is signed, and pruning changes what is signed",
            hint="sign it anew with --sign KEY, or give the signature up with --unsigned",
        )


def _other(names: Iterable[str], known: Collection[str]) -> list[str]:
    return sorted(set(names) - set(known))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _iso(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
