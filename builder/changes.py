"""What a build would change in a bundle, as data and as messages. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from offline_bundle.wheelhouse.derived.diff import BundleDiff, PackageChange, diff, metadata_changes
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
from offline_bundle.wheelhouse.store.shipped import is_launcher_file


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change that a build would make."""

    kind: str
    """`no-bundle`, `package-added`, `package-removed`, `package-changed`, `package-yanked`,
    `script-added`, `script-changed` (its metadata), `script-body-changed`, `target-added`,
    `target-removed`, `uv-added`, `uv-changed`, `python-added`, `python-changed`, `format-added`,
    `bytecode-added`, `bytecode-removed`, `launcher-changed`, `version-changed`, `file-missing`,
    `data-added`, `data-changed`, `data-removed`."""
    message: str
    """One line."""
    script: str | None = None
    target: str | None = None
    name: str | None = None
    """Of the package, platform or file."""
    old: str | None = None
    """Version."""
    new: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields that have a value."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def changes_between(old: Manifest, new: Manifest) -> Iterator[Change]:
    """Yield what *new* changes: scripts, targets, packages, then programs and the launcher."""
    difference = diff(old, new)
    yield from _script_changes(old, new)
    yield from _target_changes(old, difference)
    moved = {*difference.locks.added, *difference.locks.removed}
    for change in difference.packages:
        if f"{change.script}/{change.target}" not in moved:
            yield _package_change(change)
    yield from _yanked(old, new)
    yield from _program_changes(old, new, difference)
    yield from _launcher_changes(difference)
    if old.created_by != new.created_by:
        yield Change(
            kind="version-changed",
            message=f"it was built by {old.created_by}, this is {new.created_by}",
            old=old.created_by,
            new=new.created_by,
        )


def _script_changes(old: Manifest, new: Manifest) -> Iterator[Change]:
    for name, script in new.scripts.items():
        bundled = old.scripts.get(name)
        if bundled is None:
            message = f"{name} is not in the bundle yet"
            yield Change(kind="script-added", message=message, script=name)
        elif (bundled.block, bundled.settings) != (script.block, script.settings):
            changes = "; ".join(metadata_changes(bundled, script))
            message = f"{name}: {changes or 'its metadata block is written in another way'}"
            yield Change(kind="script-changed", message=message, script=name)
        elif old.files[bundled.path].sha256 != new.files[script.path].sha256:
            message = f"{name}: its code changed, its metadata did not"
            yield Change(kind="script-body-changed", message=message, script=name)


def _target_changes(old: Manifest, difference: BundleDiff) -> Iterator[Change]:
    messages = {
        "added": "is not in the bundle yet",
        "removed": "is dropped because the script's metadata changed; "
        "add --python-version and --python-platform of this target",
    }
    for kind, message in messages.items():
        for key in getattr(difference.locks, kind):
            script, _, target = key.partition("/")
            if script in old.scripts:
                message_line = f"{script} for {target} {message}"
                yield Change(
                    kind=f"target-{kind}", message=message_line, script=script, target=target
                )


def _package_change(change: PackageChange) -> Change:
    old, new = change.old_version, change.new_version
    if change.kind == "added":
        message = f"{change.name} {new} is added"
    elif change.kind == "removed":
        message = f"{change.name} {old} is removed"
    elif old == new:
        message = f"{change.name} {old} from another file"
    else:
        message = f"{change.name} {old} → {new}"
    return Change(
        kind=f"package-{change.kind}",
        message=f"{change.script} for {change.target}: {message}",
        script=change.script,
        target=change.target,
        name=change.name,
        old=old,
        new=new,
    )


def _yanked(old: Manifest, new: Manifest) -> Iterator[Change]:
    for path, file in new.files.items():
        bundled = old.files.get(path)
        if not bundled or not bundled.version or bundled.yanked == file.yanked:
            continue
        state = "is no longer yanked"
        if file.yanked is not None:
            state = f"was yanked from its index ({file.yanked})"
        yield Change(
            kind="package-yanked",
            message=f"{bundled.name} {bundled.version} {state}",
            name=bundled.name,
            old=bundled.version,
            new=bundled.version,
        )


def _program_changes(old: Manifest, new: Manifest, difference: BundleDiff) -> Iterator[Change]:
    """Yield the changes of uv by platform, and of interpreters by target."""
    for platform in (*difference.uv.added, *difference.uv.changed):
        before = old.uv[platform].version if platform in old.uv else None
        yield _program_change(
            "uv", f"uv for {platform}", before, new.uv[platform].version, platform
        )
    for key in (*difference.pythons.added, *difference.pythons.changed):
        before = old.pythons[key].version if key in old.pythons else None
        after = new.pythons[key].version
        change = _program_change("python", f"interpreter for {key}", before, after, "python")
        yield replace(change, target=key)


def _program_change(kind: str, subject: str, old: str | None, new: str, name: str) -> Change:
    return Change(
        kind=f"{kind}-changed" if old else f"{kind}-added",
        message=f"{subject}: {old} → {new}" if old else f"{subject}: {new} is added",
        name=name,
        old=old,
        new=new,
    )


def _launcher_changes(difference: BundleDiff) -> Iterator[Change]:
    names = difference.files
    changed = {*names.added, *names.changed, *names.removed}
    if any(is_launcher_file(path) for path in changed):
        message = "the launcher (run.py and runtime/) is that of another offline-bundle"
        yield Change(kind="launcher-changed", message=message, name="run.py")
    if "uv.toml" in changed:
        message = "uv.toml is that of another offline-bundle"
        yield Change(kind="launcher-changed", message=message, name="uv.toml")
