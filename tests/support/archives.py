"""Bundles for archives, by the real writer, with wheels of random bytes; faulty archives."""

from __future__ import annotations

import atexit
import hashlib
import io
import os
import random
import shutil
import subprocess
import tarfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.derived.complete import file_entry, follow_locks
from offline_bundle.wheelhouse.derived.simple_index import render_index
from offline_bundle.wheelhouse.runtime.archive.open import open_archives
from offline_bundle.wheelhouse.runtime.archive.tar import Entry
from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    BundledLock,
    BundledPackage,
    BundledScript,
    BundledTarget,
    BundledUv,
    Manifest,
    render_checksums,
)
from offline_bundle.wheelhouse.runtime.disk import safe_folder
from offline_bundle.wheelhouse.store.shipped import unpacker
from offline_bundle.wheelhouse.store.writer import BundleWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from offline_bundle.wheelhouse.runtime.archive.reader import Archive

LINUX = "cp312-x86_64-manylinux_2_28"
MAC = "cp312-aarch64-apple-darwin"
_TARGETS = {
    LINUX: BundledTarget(python="3.12", platform="x86_64-manylinux_2_28"),
    MAC: BundledTarget(python="3.12", platform="aarch64-apple-darwin"),
}
_UV = "uv/x86_64-manylinux_2_17"


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not flush: tests cannot cut the power, and on a busy disk a flush takes seconds."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(safe_folder, "_sync_fs", lambda _: True)


def noise(seed: str, size: int) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def wheel_path(name: str, version: str) -> str:
    return f"wheels/{name}-{version}-py3-none-any.whl"


def put_bundle(
    folder: Path,
    scripts: Mapping[str, Mapping[str, str]] | None = None,
    *,
    target: str = LINUX,
    wheel_size: int = 3000,
    text: str = "",
    wheel_seed: str = "",
    launcher: bytes = b"print('run')\n",
    created_by: str = "offline-bundle 0.1.0",
    uv: str | None = "0.13.9",
    time: str = "2026-01-01T00:00:00Z",
    digests: bool = False,
) -> Path:
    """Commit a bundle of *scripts* (name -> package -> version) to *folder*, new or an update.

    With *digests*, locks and uv have the paths of this version, else those of earlier ones.
    """
    scripts = {"eval": {"alpha": "1.0", "beta": "1.0"}} if scripts is None else scripts
    contents: dict[str, bytes] = {"run.py": launcher, "uv.toml": b"offline = true\n"}
    program = noise(f"uv {uv}", 20_000)
    uv_path = f"{_UV}/{hashlib.sha256(program).hexdigest()[:16]}/uv" if digests else f"{_UV}/uv"
    contents |= {uv_path: program} if uv else {}
    wheels: dict[str, BundledFile] = {}
    bundled = {}
    for name, packages in scripts.items():
        source = f"# {name} {text}\n".encode()
        listing = "".join(
            f"{package}=={version}\n" for package, version in sorted(packages.items())
        ).encode()
        digest = f"-{hashlib.sha256(listing).hexdigest()[:16]}" if digests else ""
        lock = f"locks/{name}/pylock.{target}{digest}.toml"
        requirements = f"locks/{name}/requirements-{target}{digest}.txt"
        contents |= {f"scripts/{name}.py": source, lock: b"# " + listing, requirements: listing}
        for package, version in packages.items():
            path = wheel_path(package, version)
            contents[path] = noise(path + wheel_seed, wheel_size)
            contents[f"{path}.metadata"] = f"Name: {package}\nVersion: {version}\n".encode()
            wheels[path] = BundledFile(
                sha256=hashlib.sha256(contents[path]).hexdigest(),
                size=wheel_size,
                name=package,
                version=version,
            )
        bundled[name] = BundledScript(
            path=f"scripts/{name}.py",
            block=hashlib.sha256(source).hexdigest(),
            dependencies=tuple(sorted(packages)),
            requires_python=None,
            settings=hashlib.sha256(b"").hexdigest(),
            locks={
                target: BundledLock(
                    lock=lock,
                    requirements=requirements,
                    libc=None,
                    packages={
                        p: BundledPackage(version=v, wheel=wheel_path(p, v))
                        for p, v in packages.items()
                    },
                )
            },
        )
    files = {path: file_entry(content) for path, content in contents.items()} | wheels
    pages = render_index(files)
    files |= {path: file_entry(content) for path, content in pages.items()}
    files["SHA256SUMS"] = BundledFile(sha256=None, size=None)
    manifest = Manifest(
        created_by=created_by,
        timestamp=time,
        scripts=bundled,
        targets={target: _TARGETS[target]},
        uv={"x86_64-manylinux_2_17": BundledUv(version=uv, path=uv_path)} if uv else {},
        files=files,
    )
    with BundleWriter(folder) as writer:
        writer.commit(follow_locks(manifest), {**contents, **pages})
    return folder


def digest_of(bundle: Path) -> str:
    return hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()


def tree(folder: Path) -> dict[str, bytes]:
    """Everything that lies below *folder*, without what belongs to its writer."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".writer" not in path.parts
    }


@contextmanager
def opened(file: Path) -> Iterator[Archive]:
    with open_archives([file]) as archives:
        yield archives[0]


def member_at(archive: Archive, offset: int) -> Entry | None:
    """The member in which the byte at *offset* lies; None for the end of the archive."""
    return next((entry for entry in archive.entries if entry.start <= offset < entry.end), None)


@cache
def unpacker_path() -> Path:
    """The generated unpacker, in a file of its own until the tests end."""
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "unpack.py"
    path.write_bytes(unpacker())
    return path


def tar_of(
    members: list[tuple[tarfile.TarInfo, bytes]], *, tar_format: int = tarfile.USTAR_FORMAT
) -> bytes:
    """A tar with any members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archive_of(document: bytes, contents: Mapping[str, bytes]) -> bytes:
    """An archive as `pack` would write it, were the manifest *document* to be believed."""
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    digests["bundle.json"] = hashlib.sha256(document).hexdigest()
    sums = "".join(f"{digest}  {path}\n" for path, digest in sorted(digests.items())).encode()
    pieces = []
    for path, content in [
        ("bundle.json", document),
        ("SHA256SUMS", sums),
        *sorted(contents.items()),
    ]:
        entry = Entry(path, "", len(content), is_executable=path.startswith("uv/"))
        pieces += [entry.header(1767225600), content, bytes(-len(content) % 512)]
    return b"".join(pieces) + bytes(1024)


def checksums_of(manifest: Manifest) -> bytes:
    return render_checksums(manifest, manifest.to_json())


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a file system of *size* bytes; skip the test if that fails, except in CI."""
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if not done or done.returncode:
        if os.environ.get("CI"):
            pytest.fail("needs to be root and to mount a tmpfs")
        pytest.skip("needs to be root and to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
