"""The format `venv`: a ready environment per script and target, used in place from the share.

envs/SCRIPT/TARGET/LOCK/    pyvenv.cfg, bin/, lib/python3.12/site-packages/; LOCK: sha256 prefix
envs/bin/uv                 the uv shim: `uv run SCRIPT` starts the launcher
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from offline_bundle.builder.compose import Composition
from offline_bundle.builder.formats.base import FormatContext, with_locks
from offline_bundle.builder.formats.environment import EnvironmentMaker
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
from offline_bundle.wheelhouse.runtime.names import UV_SHIM

FOLDER = "envs"


class VenvFormat:
    """`Format` of ready environments."""

    def is_incomplete(self, manifest: Manifest) -> bool:
        """Return True if a lock has no environment."""
        return any(lock.environment is None for _, _, lock in manifest.locks())

    def add(self, composition: Composition, context: FormatContext) -> Composition:
        """Add an environment for each lock without one; note those that cannot be made here."""
        manifest = composition.manifest
        maker = EnvironmentMaker(composition, context, "ready environment")
        files = {UV_SHIM: _write_uv_shim(composition, context)}
        environments: dict[tuple[str, str], str] = {}
        for name, key, lock in manifest.locks():
            if lock.environment:
                environments[name, key] = lock.environment
                continue
            folder = context.folder / FOLDER / str(len(environments))
            if not maker.make(name, key, lock, folder):
                continue
            path = f"{FOLDER}/{name}/{key}/{(manifest.files[lock.lock].sha256 or '')[:16]}"
            environments[name, key] = path
            files |= {
                f"{path}/{file.relative_to(folder).as_posix()}": file
                for file in sorted(folder.rglob("*"))
                if file.is_file()
            }
        maker.check_made(environments.values(), "venv")
        return with_locks(
            composition,
            lambda name, key, lock: replace(lock, environment=environments.get((name, key))),
            files,
        )


def _write_uv_shim(composition: Composition, context: FormatContext) -> Path:
    path = context.folder / "uv-shim"
    path.write_bytes(context.read(composition, "runtime/launcher/uv/uv_shim.py"))
    path.chmod(0o755)
    return path
