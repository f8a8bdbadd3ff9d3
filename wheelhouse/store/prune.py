"""Remove what no script in a bundle needs.

    prune(Path("bundle"), drop_scripts=["old"], grace=timedelta(days=1))

A job that is starting may have read the previous manifest and may still open the files that it
names. So files are removed in two steps. First they are unneeded: they stay in place and in the
manifest, and the bundle verifies. After the grace period the manifest no longer names them, and
they are deleted. `.writer/retired.json` has the time since when each file is unneeded. Without an
entry, the last change of the manifest counts, by its ctime, which cannot be set: too late a time is
harmless, too early is not.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from offline_bundle.wheelhouse.derived.bytecode import needed_bytecode
from offline_bundle.wheelhouse.derived.complete import INVENTORIES, complete, follow_locks
from offline_bundle.wheelhouse.derived.inventories import add_inventories, gather_metadata
from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledLock,
    BundledScript,
    Manifest,
    read_manifest,
)
from offline_bundle.wheelhouse.runtime.bytecode import BYTECODE
from offline_bundle.wheelhouse.runtime.errors import InputError, SignatureError, translate_os_errors
from offline_bundle.wheelhouse.runtime.names import (
    DATA,
    MANIFEST,
    PROVENANCE,
    SIGNATURE,
    UV_SHIM,
    WRITER,
)
from offline_bundle.wheelhouse.runtime.python.platforms import parse_platform
from offline_bundle.wheelhouse.store.writer import BundleWriter

DEFAULT_GRACE = timedelta(days=1)
RETIRED = f"{WRITER}/retired.json"
_PRUNED = (
    *("wheels/", "locks/", "scripts/", "uv/", "python/"),
    *("cache/", "envs/", "images/", BYTECODE, f"{DATA}/"),
)


@dataclass(frozen=True, kw_only=True)
class PruneReport:
    """What was removed, or would be by a dry run."""

    scripts: tuple[str, ...]
    """Dropped by name, or because none of their targets is left."""
    targets: tuple[str, ...]
    removed: tuple[str, ...]
    """Paths."""
    freed: int
    """Bytes of the removed files."""
    waiting: Mapping[str, str]
    """Unneeded path -> the time (UTC) from which `prune` removes it."""
    waiting_size: int
    is_dry_run: bool
    changed: bool
    """True if the bundle is, or would be, a different one."""


def prune(  # noqa: PLR0913 - one parameter per option of the command
    directory: Path,
    *,
    drop_scripts: Collection[str] = (),
    drop_targets: Collection[str] = (),
    grace: timedelta = DEFAULT_GRACE,
    is_dry_run: bool = False,
    sign: Callable[[bytes], bytes] | None = None,
    allow_unsigned: bool = False,
) -> PruneReport:
    """Remove what no script of the bundle at *directory* needs, and the named scripts and targets.

    A signed bundle needs *sign*, which signs the bytes of the new manifest, or *allow_unsigned*.
    Raises InputError (2) for unknown names, SignatureError (6), and what `BundleWriter` raises.
    """
    if is_dry_run:
        plan = _Plan(directory, read_manifest(directory), drop_scripts, drop_targets, grace)
        return plan.report(changed=plan.manifest != plan.before, is_dry_run=True)
    read_manifest(directory)  # without a bundle there, the writer would create a folder
    with BundleWriter(directory) as writer:
        plan = _Plan(directory, read_manifest(directory), drop_scripts, drop_targets, grace)
        if plan.manifest != plan.before and not sign and not allow_unsigned:
            _check_is_unsigned(directory)
        manifest, contents = plan.compose()
        changed = writer.commit(manifest, contents, sign=sign)
        plan.record_times()
        return plan.report(changed=changed, is_dry_run=False)


def drop(manifest: Manifest, scripts: Collection[str], targets: Collection[str]) -> Manifest:
    """Return *manifest* without *scripts*, *targets*, and scripts that have no target left. Pure.

    Their files stay. Raises InputError for unknown names, and if nothing would be left.
    """
    _check_names(manifest, scripts, targets)
    kept: dict[str, BundledScript] = {}
    for name, script in manifest.scripts.items():
        locks: dict[str, BundledLock] = {
            target: lock for target, lock in script.locks.items() if target not in targets
        }
        if name not in scripts and locks:
            kept[name] = replace(script, locks=locks)
    if manifest.scripts and not kept:
        hint = "to remove the whole bundle, remove its folder"
        raise InputError("nothing would be left of the bundle", hint=hint)
    manifest = follow_locks(replace(manifest, scripts=kept))
    machines = {parse_platform(target.platform)[:2] for target in manifest.targets.values()}
    uv = {
        platform: uv
        for platform, uv in manifest.uv.items()
        if parse_platform(platform)[:2] in machines
    }
    return replace(manifest, uv=uv)


def unneeded(manifest: Manifest) -> set[str]:
    """Return the paths of pruned kinds that nothing in *manifest* refers to. Pure.

    Only uv knows which files of its cache belong to a lock, so the cache stays or goes as a whole.
    """
    needed = {uv.path for uv in manifest.uv.values()}
    needed |= {python.path for python in manifest.pythons.values()}
    folders = []
    for script in manifest.scripts.values():
        needed.update(script.paths())
        needed |= {f"{DATA}/{name}" for name in script.data}
        folders += [f"{DATA}/{name}/" for name in script.data]
        for lock in script.locks.values():
            needed |= {lock.image} if lock.image else set()
            folders += ["cache/"] if lock.cache else []
            folders += [f"{lock.environment}/", UV_SHIM] if lock.environment else []
            for package in lock.packages.values():
                needed |= {
                    package.wheel,
                    f"{package.wheel}.metadata",
                    f"{package.wheel}{PROVENANCE}",
                }
    needed |= needed_bytecode(manifest, manifest.scripts)
    kept = tuple(folders)
    return {p for p in manifest.files if p.startswith(_PRUNED) and not p.startswith(kept)} - needed


def without(manifest: Manifest, paths: Collection[str]) -> tuple[Manifest, dict[str, bytes]]:
    """Return *manifest* without *paths*, and the contents of its new index pages. Pure."""
    files = {path: file for path, file in manifest.files.items() if path not in paths}
    return complete(replace(manifest, files=files))


class _Plan:
    """What one prune does, computed from a manifest and the times before anything is written."""

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
        self._since = _unneeded_since(
            directory, now, before=unneeded(before), after=unneeded(dropped)
        )
        self._due = {path: since + grace for path, since in self._since.items()}
        self._removed = sorted(path for path, due in self._due.items() if due <= now)
        self.manifest = dropped
        self._pages: dict[str, bytes] = {}
        if self._removed:
            self.manifest, self._pages = without(dropped, set(self._removed))

    def compose(self) -> tuple[Manifest, dict[str, bytes]]:
        """Return the manifest to commit, and the contents of new pages and inventories."""
        if not self.before.files.keys() & INVENTORIES or self.manifest == self.before:
            return self.manifest, self._pages
        manifest, inventories = add_inventories(
            self.manifest, lambda: gather_metadata(self.manifest, {}, self._directory), self.before
        )
        return manifest, {**self._pages, **inventories}

    def record_times(self) -> None:
        """Record since when files are unneeded; if killed before, the commit's time counts."""
        path = self._directory / RETIRED
        times = {
            name: _iso(since)
            for name, since in sorted(self._since.items())
            if name not in self._removed
        }
        with translate_os_errors(self._directory):
            if not times:
                path.unlink(missing_ok=True)
                return
            staged = path.with_name(f"{path.name}.new")
            staged.write_text(json.dumps(times, indent=1) + "\n", encoding="utf-8")
            staged.replace(path)

    def report(self, *, changed: bool, is_dry_run: bool) -> PruneReport:
        files = self.before.files
        waiting = {
            path: _iso(due) for path, due in sorted(self._due.items()) if path not in self._removed
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


def _unneeded_since(
    directory: Path, now: datetime, *, before: Collection[str], after: Collection[str]
) -> dict[str, datetime]:
    """Return since when each path of *after* is unneeded; those of *before* already were."""
    recorded = _read_times(directory)
    committed = datetime.fromtimestamp((directory / MANIFEST).stat().st_ctime, UTC)
    times: dict[str, datetime] = defaultdict(lambda: now)
    times |= dict.fromkeys(before, min(committed, now))
    times |= {path: min(since, now) for path, since in recorded.items() if path in before}
    return {path: times[path] for path in after}


def _read_times(directory: Path) -> dict[str, datetime]:
    """Return the recorded times; none for a missing or invalid file: the grace period restarts."""
    try:
        document = json.loads((directory / RETIRED).read_text(encoding="utf-8"))
        return {
            path: datetime.fromisoformat(time).astimezone(UTC) for path, time in document.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _check_is_unsigned(directory: Path) -> None:
    if (directory / SIGNATURE).exists():
        raise SignatureError(
            f"{directory}: the bundle is signed, and pruning changes it",
            hint="sign it again with --sign KEY, or remove the signature with --unsigned",
        )


def _check_names(manifest: Manifest, scripts: Iterable[str], targets: Iterable[str]) -> None:
    kinds = (("script", scripts, manifest.scripts), ("target", targets, manifest.targets))
    problems = [
        f"no {kind} {name}; the bundle has {', '.join(sorted(names)) or 'none'}"
        for kind, wanted, names in kinds
        for name in sorted(set(wanted) - names.keys())
    ]
    if problems:
        raise InputError(
            "no such script or target in the bundle", problems=problems, hint="correct the names"
        )


def _iso(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
