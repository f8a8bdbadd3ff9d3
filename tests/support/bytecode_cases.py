"""Bytecode files for tests."""

from __future__ import annotations

import gzip
import importlib.util
import io
import marshal
import sys
import tarfile
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.derived.bytecode import compile_wheels
from tests.support.distributions import sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TAG = sys.implementation.cache_tag
ALPHA = f"__pycache__/alpha.{TAG}.pyc"


def compile_one(wheel: Path, folder: Path, python: str = sys.executable) -> Path:
    return compile_wheels(python, {sha256_of(wheel): wheel}, folder)[sha256_of(wheel)]


def archive(members: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else b""
            if isinstance(content, tarfile.TarInfo):
                member = content
                member.name = name
            else:
                member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(stream.getvalue(), mtime=0)


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo("x")
    member.type, member.linkname = kind, target
    return member


def compile_code(source: str, magic: bytes = importlib.util.MAGIC_NUMBER) -> bytes:
    return magic + b"\1\0\0\0" + bytes(8) + marshal.dumps(compile(source, "alpha.py", "exec"))
