"""An archive of the running Python, in the format of python-build-standalone, and uv's list of it.

It is small, so that tests are quick: without much of the standard library, and stripped if
binutils are installed. The real archives need only libc. So if this Python is linked to a shared
libpython by an absolute path, that path is made relative, and zlib is included.
"""

from __future__ import annotations

import atexit
import functools
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.distributions import sha256_of

VERSION = ".".join(map(str, sys.version_info[:3]))
MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
RELEASE = "20260211"
_MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(
    platform.machine().lower(), platform.machine().lower()
)
TRIPLE = f"{_MACHINE}-unknown-linux-gnu"
FILENAME = f"cpython-{VERSION}+{RELEASE}-{TRIPLE}-install_only_stripped.tar.gz"
KEY = f"cpython-{VERSION}-linux-{_MACHINE}-gnu"
_LEFT_OUT = {
    "__pycache__", "asyncio", "ctypes", "curses", "dbm", "distutils", "ensurepip", "html", "http",
    "idlelib", "lib2to3", "pkgconfig", "pydoc_data", "site-packages", "sqlite3", "test", "tests",
    "tkinter", "turtledemo", "unittest", "wsgiref", "xml", "xmlrpc",
}  # fmt: skip
_LEFT_OUT_FILES = re.compile(
    r"lib-dynload/(?:_test|_codecs|_ctypes|_curses|_decimal|_sqlite3|_ssl|_tkinter|_hashlib|pyexpat|unicodedata).*|"
    r"encodings/(?!__init__|aliases|ascii|cp437|latin_1|utf_8\b).*|(?:turtle|pydoc|_pydecimal|_pyio|typing_ext).*"
)


@dataclass(frozen=True)
class Mirror:
    """A folder as uv's mirrors are laid out, with one archive, and uv's list of it."""

    folder: Path
    archive: Path

    def write_list(self, path: Path, url: str, **changes: Any) -> Path:  # noqa: ANN401
        """Write what UV_PYTHON_DOWNLOADS_JSON_URL may name; *url* is where `folder` is served."""
        major, minor, patch = sys.version_info[:3]
        entry = {
            "name": "cpython",
            "arch": {"family": _MACHINE, "variant": None},
            "os": "linux",
            "libc": "gnu",
            "major": major,
            "minor": minor,
            "patch": patch,
            "prerelease": "",
            "variant": None,
            "build": RELEASE,
            "url": f"{url}/{RELEASE}/{FILENAME.replace('+', '%2B')}",
            "sha256": sha256_of(self.archive),
        }
        path.write_text(json.dumps({KEY: {**entry, **changes}}))
        return path


@functools.cache
def python_mirror() -> Mirror:
    """The archive, made once in each process of the tests."""
    folder = Path(tempfile.mkdtemp(prefix="mirror-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    archive = folder / RELEASE / FILENAME
    archive.parent.mkdir()
    base = Path(sys.base_prefix)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        name = f"python{MINOR}"
        _add_program(tar, (base / "bin" / name).resolve(), f"python/bin/{name}", base)
        for link in ("python", "python3"):
            _add_link(tar, f"python/bin/{link}", name)
        for library in sorted((base / "lib").glob("libpython*.so.*")):
            _add_program(tar, library, f"python/lib/{library.name}", base)
        stdlib = Path(sysconfig.get_path("stdlib"))
        for parent, folders, names in os.walk(stdlib):
            folders[:] = sorted(
                name for name in folders if name not in _LEFT_OUT and not name.startswith("config-")
            )
            for path in sorted(Path(parent, name) for name in names):
                if _LEFT_OUT_FILES.fullmatch(path.relative_to(stdlib).as_posix()):
                    continue
                name = f"python/lib/python{MINOR}/{path.relative_to(stdlib)}"
                if path.suffix == ".so":
                    _add_program(tar, path, name, base, up="../..")
                else:
                    tar.add(path, name, recursive=False)
        for library in _zlib():
            _add_program(tar, library, f"python/lib/{library.name}", base)
    return Mirror(folder, archive)


def _zlib() -> list[Path]:
    """Return the shared library of the module; none if it is part of the interpreter."""
    if not getattr(zlib, "__file__", None):
        return []
    said = subprocess.run(["ldd", zlib.__file__], capture_output=True, text=True, check=True).stdout
    return [
        Path(line.split()[2]) for line in said.splitlines() if line.strip().startswith("libz.so")
    ]


def _add_program(
    tar: tarfile.TarFile, path: Path, name: str, base: Path, up: str = "../lib"
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stripped = Path(folder, "stripped")
        if shutil.which("strip") and path.stat().st_size > 1_000_000:
            subprocess.run(["strip", "-o", stripped, path], check=True)
        content = (stripped if stripped.exists() else path).read_bytes()
    absolute = f"{base}/lib".encode() + b"\0"
    content = content.replace(absolute, f"$ORIGIN/{up}".encode().ljust(len(absolute), b"\0"))
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o755
    tar.addfile(member, io.BytesIO(content))


def _add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    tar.addfile(member)
