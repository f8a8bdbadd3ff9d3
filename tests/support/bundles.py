"""Small real bundles made on the fly: valid manifests, real locks, wheels that install."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from offline_bundle.wheelhouse.derived.python_downloads import render_downloads
from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    BundledPython,
    BundledTarget,
)
from offline_bundle.wheelhouse.runtime.python.pep723 import (
    block_digest,
    read_block,
    settings_digest,
)
from offline_bundle.wheelhouse.store.shipped import bundle_files
from tests.support.distributions import make_wheel, sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
_MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(
    platform.machine().lower(), platform.machine().lower()
)


def this_platform() -> str:
    """This machine in uv's words, with a floor that every glibc of today meets."""
    if sys.platform == "darwin":
        return f"{_MACHINE}-apple-darwin"
    is_glibc = platform.libc_ver()[0] == "glibc"
    return f"{_MACHINE}-manylinux_2_17" if is_glibc else f"{_MACHINE}-unknown-linux-musl"


@dataclass(frozen=True, kw_only=True)
class BundleScript:
    """A script to bundle: its metadata, its body, and the packages of its lock."""

    dependencies: Sequence[str] = ("alpha",)
    requires_python: str | None = None
    tool_uv: str = ""
    """Lines of the [tool.uv] table."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The same as data."""
    body: str = ""
    packages: Sequence[str] = ("alpha",)
    """Names of the packages to lock, all at version 1.0."""

    @property
    def text(self) -> str:
        lines = [f"dependencies = {json.dumps(list(self.dependencies))}"]
        lines += (
            [f"requires-python = {json.dumps(self.requires_python)}"]
            if self.requires_python
            else []
        )
        lines += ["", "[tool.uv]", *self.tool_uv.splitlines()] if self.tool_uv else []
        block = "".join(f"# {line}".rstrip() + "\n" for line in lines)
        return f"# /// script\n{block}# ///\n{self.body}"


def make_bundle(
    folder: Path,
    scripts: Mapping[str, BundleScript] | None = None,
    *,
    python: str | Sequence[str] = THIS_PYTHON,
    platforms: Sequence[str] = (),
    libc: str | None = None,
    uv: Path | None = None,
    uv_platform: str | None = None,
    archive: Path | None = None,
    archive_version: str | None = None,
) -> Path:
    """Write a bundle with a launcher to *folder*; each script has a lock for each target.

    *archive* is the archive of an interpreter, bundled for every target.
    """
    scripts = {"eval": BundleScript()} if scripts is None else scripts
    pythons = [python] if isinstance(python, str) else list(python)
    platforms = platforms or [this_platform()]
    targets = {
        f"cp{minor.replace('.', '')}-{name}": {"python": minor, "platform": name}
        for minor in pythons
        for name in platforms
    }
    manifest: dict[str, Any] = {
        "format": 1,
        "created-by": "tests",
        "timestamp": "2026-01-01T00:00:00Z",
        "scripts": {
            name: _write_script(folder, name, script, targets, libc)
            for name, script in scripts.items()
        },
        "targets": targets,
        "uv": {},
    }
    _write_programs(folder, with_pythons=archive is not None)
    if uv:
        place = f"uv/{uv_platform or this_platform()}/{sha256_of(uv)[:16]}/uv"
        _copy(uv, folder / place)
        manifest["uv"] = {uv_platform or this_platform(): {"version": "0", "path": place}}
    if archive:
        _bring_python(
            folder, manifest, archive, archive_version or ".".join(map(str, sys.version_info[:3]))
        )
    return write_manifest(folder, manifest)


def _write_programs(folder: Path, *, with_pythons: bool) -> None:
    for path, content in bundle_files(with_cache=False, with_pythons=with_pythons).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def _bring_python(folder: Path, manifest: dict[str, Any], archive: Path, version: str) -> None:
    path = f"python/{archive.parent.name}/{archive.name}"
    _copy(archive, folder / path)
    pythons = {
        name: BundledPython(version=version, implementation="cpython", path=path)
        for name in manifest["targets"]
    }
    targets = {name: BundledTarget(**target) for name, target in manifest["targets"].items()}
    files = {path: BundledFile(sha256=sha256_of(archive), size=archive.stat().st_size)}
    for name, content in render_downloads(pythons, targets, files).items():
        (folder / name).write_bytes(content)
    manifest["pythons"] = {name: vars(python) for name, python in pythons.items()}


def write_manifest(bundle: Path, manifest: dict[str, Any]) -> Path:
    """Take stock of the files on disk, and rename the manifest into place."""
    files = sorted(
        path for path in bundle.rglob("*") if path.is_file() and path.name != "bundle.json"
    )
    manifest["files"] = {
        path.relative_to(bundle).as_posix(): {
            "sha256": sha256_of(path),
            "size": path.stat().st_size,
        }
        for path in files
    }
    staged = bundle / "bundle.json.new"
    staged.write_text(json.dumps(manifest, indent=2, sort_keys=True))
    staged.replace(bundle / "bundle.json")
    return bundle


def read_manifest(bundle: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((bundle / "bundle.json").read_text())
    return manifest


def _write_script(
    bundle: Path,
    name: str,
    script: BundleScript,
    targets: Mapping[str, Mapping[str, str]],
    libc: str | None,
) -> dict[str, Any]:
    path = bundle / "scripts" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script.text)
    ended = ">=3.8,<3.9"  # as uv does, a node heeds no upper end
    wheels = {
        package: make_wheel(bundle / "wheels", package, requires_python=ended)
        for package in script.packages
    }
    block = read_block(script.text)
    return {
        "path": f"scripts/{name}.py",
        "block": block_digest(block or ""),
        "dependencies": list(script.dependencies),
        "requires-python": script.requires_python,
        "settings": settings_digest(dict(script.settings)),
        "locks": {target: _write_lock(bundle, name, target, wheels, libc) for target in targets},
    }


def _write_lock(
    bundle: Path, name: str, target: str, wheels: Mapping[str, Path], libc: str | None
) -> dict[str, Any]:
    lock = bundle / "locks" / name / f"pylock.{target}.toml"
    lock.parent.mkdir(parents=True, exist_ok=True)
    tables = [
        f'[[packages]]\nname = "{package}"\nversion = "1.0"\n'
        f'wheels = [{{ path = "../../wheels/{wheel.name}", '
        f'size = {wheel.stat().st_size}, hashes = {{ sha256 = "{sha256_of(wheel)}" }} }}]\n'
        for package, wheel in wheels.items()
    ]
    lock.write_text("\n".join(['lock-version = "1.0"\ncreated-by = "tests"\n', *tables]))
    requirements = lock.with_name(f"requirements-{target}.txt")
    requirements.write_text(
        "".join(
            f"{package}==1.0 --hash=sha256:{sha256_of(wheel)}\n"
            for package, wheel in wheels.items()
        )
    )
    return {
        "lock": lock.relative_to(bundle).as_posix(),
        "requirements": requirements.relative_to(bundle).as_posix(),
        "libc": libc,
        "packages": {
            package: {"version": "1.0", "wheel": f"wheels/{wheel.name}"}
            for package, wheel in wheels.items()
        },
    }


def _copy(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)
