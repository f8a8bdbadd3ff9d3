"""A bundle in memory to review: manifests and METADATA, and the same on disk."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.derived.complete import file_entry, follow_locks
from offline_bundle.wheelhouse.derived.inventories import add_inventories, gather_metadata
from offline_bundle.wheelhouse.derived.simple_index import render_index
from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    BundledLock,
    BundledPackage,
    BundledScript,
    BundledTarget,
    BundledUv,
    Manifest,
    Source,
)
from offline_bundle.wheelhouse.runtime.names import CHECKSUMS
from offline_bundle.wheelhouse.store.writer import BundleWriter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LINUX, WINDOWS, MAC = (
    "cp312-x86_64-manylinux_2_28",
    "cp312-x86_64-pc-windows-msvc",
    "cp313-aarch64-apple-darwin",
)
TARGETS = {
    LINUX: BundledTarget(python="3.12", platform="x86_64-manylinux_2_28"),
    WINDOWS: BundledTarget(python="3.12", platform="x86_64-pc-windows-msvc"),
    MAC: BundledTarget(python="3.13", platform="aarch64-apple-darwin"),
}
INDEX = "https://index.example/simple"


class Shelf:
    """Wheels to fill a bundle from, and their METADATA."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.files: dict[str, BundledFile] = {}
        self.metadata: dict[str, bytes] = {}

    def wheel(
        self,
        name: str,
        version: str = "1.0",
        *headers: str,
        tag: str = "py3-none-any",
        size: int = 100,
        **about: object,
    ) -> str:
        """Add a wheel and return its path.

        *headers* are lines of its METADATA, *about* are values of its entry in the manifest.
        """
        path = f"wheels/{name.replace('-', '_')}-{version}-{tag}.whl"
        content = f"{path}\n".encode().ljust(size, b".")
        metadata = (
            "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *headers])
            + "\n\nBody\n"
        )
        about.setdefault(
            "source",
            Source(index=INDEX, url=f"https://files.example/{path.removeprefix('wheels/')}"),
        )
        self.files[path] = replace(_described(content), name=name, version=version, **about)  # type: ignore[arg-type]
        self.files[f"{path}.metadata"] = _described(metadata.encode())
        self.contents |= {path: content, f"{path}.metadata": metadata.encode()}
        self.metadata[path] = metadata.encode()
        return path

    def manifest(
        self,
        scripts: Mapping[str, Mapping[str, Sequence[str]]],
        *,
        asks: Mapping[str, Sequence[str]] | None = None,
        uv: Sequence[str] = (),
        text: str = "",
    ) -> Manifest:
        """Return a manifest of *scripts*: name -> target -> paths of wheels.

        *asks* has the dependencies of each script.
        """
        files = dict(self.files)
        entries = {}
        for name, targets in scripts.items():
            locks = {}
            for target, wheels in targets.items():
                lock, requirements = (
                    f"locks/{name}/pylock.{target}.toml",
                    f"locks/{name}/requirements-{target}.txt",
                )
                for path in (lock, requirements):
                    self.contents[path] = f"{path} {wheels}".encode()
                    files[path] = _described(self.contents[path])
                packages = {
                    self.files[path].name or "": BundledPackage(
                        version=self.files[path].version or "", wheel=path
                    )
                    for path in wheels
                }
                locks[target] = BundledLock(
                    lock=lock, requirements=requirements, libc="2.17", packages=packages
                )
            path = f"scripts/{name}.py"
            self.contents[path] = f"print({name!r}){text}".encode()
            files[path] = _described(self.contents[path])
            dependencies = tuple(
                (asks or {}).get(name)
                or [self.files[w].name or "" for w in next(iter(targets.values()))]
            )
            entries[name] = BundledScript(
                path=path,
                block=_digest(repr(dependencies).encode()),
                dependencies=dependencies,
                requires_python=">=3.12",
                settings=_digest(b"{}"),
                locks=locks,
            )
        uvs = {}
        for platform in uv:
            path = f"uv/{platform}/uv"
            self.contents[path] = f"uv for {platform}".encode()
            files[path] = replace(
                _described(self.contents[path]), version="0.9", source=Source(index=INDEX)
            )
            uvs[platform] = BundledUv(version="0.9", path=path)
        used = {target for targets in scripts.values() for target in targets}
        manifest = Manifest(
            created_by="offline-bundle 0.1.0",
            timestamp="2026-01-02T03:04:05Z",
            scripts=entries,
            targets={name: TARGETS[name] for name in used},
            uv=uvs,
            files=files,
        )
        return follow_locks(manifest)

    def write(self, directory: Path, manifest: Manifest) -> Manifest:
        """Commit *manifest* with its derived files to *directory*; return the result."""
        with BundleWriter(directory) as writer:
            pages = render_index(manifest.files)
            files = {**manifest.files, **{path: file_entry(page) for path, page in pages.items()}}
            files[CHECKSUMS] = BundledFile(sha256=None, size=None)
            whole = replace(manifest, files=files)
            contents: dict[str, bytes | Path] = {**self.contents, **pages}
            whole, inventories = add_inventories(
                whole, lambda: gather_metadata(whole, contents, directory), writer.current
            )
            writer.commit(whole, {**contents, **inventories})
            assert writer.current
            return writer.current


def _described(content: bytes) -> BundledFile:
    return BundledFile(sha256=_digest(content), size=len(content))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
