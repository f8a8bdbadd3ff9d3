"""Compile the modules of wheels to bytecode; run as a program, by the Python that it is for.

stdin   "FOLDER", then a line [SHA256, PATH] for each wheel, which is compiled at once
stdout  {SHA256: PATH of the compiled file in FOLDER}; files that exist already are kept

A compiled file is a tar.gz of unchecked hash-based `.pyc` files (PEP 552) with the paths that they
have below site-packages. It has no times and no paths of this machine. It has no tests of packages,
which jobs do not import. Standard library of Python 3.8 or newer only.
"""

import io
import json
import marshal
import os
import sys
import tarfile
import traceback
import zipfile
import zlib
from importlib import util

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Optional

_REVISION = 3
"""Increase when the same wheel and Python give other files than before."""
_UNCHECKED = (1).to_bytes(4, "little")
_WBITS_GZIP = 31
TEST_FOLDERS = frozenset(("test", "tests"))
"""Folders whose modules are not compiled: of numpy and matplotlib a quarter of all modules."""


def main() -> int:
    """Compile what stdin asks for; return the exit code."""
    folder = json.loads(sys.stdin.readline())
    os.makedirs(folder, mode=0o700, exist_ok=True)
    outputs = {}
    processes = _Processes()
    for line in sys.stdin:
        digest, wheel = json.loads(line)
        output = os.path.join(folder, _output_name(digest))
        if digest not in outputs and not os.path.exists(output):
            processes.compile(wheel, output)
        outputs[digest] = output
    is_complete = processes.finish()
    json.dump(outputs, sys.stdout)
    return 0 if is_complete else 1


def _output_name(digest: str) -> str:
    tag = "{}{}".format(sys.implementation.cache_tag, getattr(sys, "abiflags", ""))
    return "{}-{}-{}-{}.tar.gz".format(digest, tag, util.MAGIC_NUMBER.hex(), _REVISION)


class _Processes:
    """Compile each wheel in a process of its own, twice as many at once as there are CPUs.

    The bytes of a marshalled object depend on what else is alive in the interpreter. So each wheel
    starts from the same state.
    """

    def __init__(self) -> None:
        self._running = 0
        self._statuses = []  # type: list[int]

    def compile(self, wheel: str, output: str) -> None:
        """Start to compile *wheel*, when another one has ended."""
        if not hasattr(os, "fork"):
            _compile(wheel, output)
            return
        # twice as many as CPUs, because some wait for the disk
        if self._running >= 2 * (os.cpu_count() or 1):
            self._wait()
        if os.fork() == 0:
            _run_child(wheel, output)
        self._running += 1

    def finish(self) -> bool:
        """Wait for the end; return whether all succeeded."""
        while self._running:
            self._wait()
        return not any(self._statuses)

    def _wait(self) -> None:
        self._statuses.append(os.wait()[1])
        self._running -= 1


def _run_child(wheel: str, output: str) -> None:
    try:
        _compile(wheel, output)
    except (zipfile.BadZipFile, zlib.error) as error:
        sys.stderr.write("{}: this wheel is corrupt: {}\n".format(_distribution(wheel), error))
        os._exit(1)
    except BaseException:  # noqa: BLE001 - the child must not run the parent's code
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _distribution(wheel: str) -> str:
    """Return name and version, such as `numpy-2.5.5`: in a cache, the file has another name."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" in name]
    return names[0].partition(".dist-info/")[0] if names else wheel


def _compile(wheel: str, output: str) -> None:
    """Write the compiled modules of *wheel* to *output*, which appears when it is complete."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in sorted(_modules(wheel)):
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    # why not 6: 40 % slower, for 1 % less
    compressor = zlib.compressobj(5, zlib.DEFLATED, _WBITS_GZIP)
    partial = "{}.{}.partial".format(output, os.getpid())
    with open(partial, "wb") as file:
        file.write(compressor.compress(tar.getbuffer()) + compressor.flush())
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, output)


def _modules(wheel: str) -> "Iterator[tuple[str, bytes]]":
    """Yield path and content of the bytecode of each module that this Python can compile."""
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(set(archive.namelist())):
            path = _installed_path(name) if name.endswith(".py") else None
            content = _bytecode(archive.read(name), path) if path else None
            if path and content:
                yield util.cache_from_source(path).replace(os.sep, "/"), content


def _installed_path(name: str) -> "Optional[str]":
    """Return where a member is installed below site-packages; None if elsewhere, and for tests."""
    parts = name.split("/")
    if ".." in parts or "" in parts or not TEST_FOLDERS.isdisjoint(parts[:-1]):
        return None
    if parts[0].endswith(".data"):
        return "/".join(parts[2:]) if parts[1] in {"purelib", "platlib"} else None
    return name


def _bytecode(source: bytes, path: str) -> "Optional[bytes]":
    """Return the content of a `.pyc` file, or None where *source* is not valid in this Python.

    An import replaces *path* in the code by the real one.
    """
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    except Exception:  # noqa: BLE001 - templates and tests for other Pythons: installers go on too
        return None
    return util.MAGIC_NUMBER + _UNCHECKED + util.source_hash(source) + marshal.dumps(code)


if __name__ == "__main__":
    sys.exit(main())
