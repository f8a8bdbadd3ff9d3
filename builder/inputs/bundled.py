"""Scripts as the manifest records them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.wheelhouse.derived.diff import metadata_changes
from offline_bundle.wheelhouse.runtime.bundle.manifest_entries import BundledLock, BundledScript
from offline_bundle.wheelhouse.runtime.python.pep723 import block_digest, settings_digest
from offline_bundle.wheelhouse.runtime.text import without_logins


def bundled_script(
    script: Script, locks: Mapping[str, BundledLock], data: tuple[str, ...] = ()
) -> BundledScript:
    """Return the manifest's entry of *script* with these *locks*, and names in `data/`."""
    return BundledScript(
        path=f"scripts/{script.name}.py",
        block=block_digest(script.block),
        dependencies=tuple(map(without_logins, script.dependencies)),
        requires_python=script.requires_python,
        settings=settings_digest(script.settings),
        locks=locks,
        data=data,
    )


def with_lock(
    bundled: BundledScript | None, script: Script, target: str, lock: BundledLock
) -> BundledScript:
    """Return the entry of *script* with *lock*, and those of *bundled* that are still valid."""
    entry = bundled_script(script, {target: lock}, bundled.data if bundled else ())
    if bundled is None or metadata_changes(bundled, entry):
        return entry
    return replace(entry, locks={**bundled.locks, target: lock})
