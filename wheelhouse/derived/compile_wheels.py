"""Compile the modules of wheels to bytecode; run as a program, by the Python that it is for.

stdin   {"folder": FOLDER, "wheels": {SHA256: PATH}}
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

_REVISION = 2
"""Increase when the same wheel and Python give other files than before."""
_UNCHECKED = (1).to_bytes(4, "little")
_WBITS_GZIP = 31
TEST_FOLDERS = frozenset(("test", "tests"))
"""Folders whose modules are not compiled: of numpy and matplotlib a quarter of all modules."""


def main() -> int:
    """Compile what stdin asks for; return the exit code."""
    request = json.load(sys.stdin)
    os.makedirs(request["folder"], mode=0o700, exist_ok=True)
    outputs = {
        digest: os.path.join(request["folder"], _output_name(digest))
        for digest in request["wheels"]
    }
    missing = [
        (path, outputs[digest])
        for digest, path in request["wheels"].items()
        if not os.path.exists(outputs[digest])
    ]
    missing.sort(key=lambda job: -os.path.getsize(job[0]))  # so that no large one is left at last
    is_complete = _compile_all(missing)
    json.dump(outputs, sys.stdout)
    return 0 if is_complete else 1


def _output_name(digest: str) -> str:
    tag = "{}{}".format(sys.implementation.cache_tag, getattr(sys, "abiflags", ""))
    return "{}-{}-{}-{}.tar.gz".format(digest, tag, util.MAGIC_NUMBER.hex(), _REVISION)


def _compile_all(jobs: "list[tuple[str, str]]") -> bool:
    """Compile each wheel in a process of its own; return whether all succeeded.

    The bytes of a marshalled object depend on what else is alive in the interpreter. So each wheel
    starts from the same state, and several are compiled at once.
    """
    if not hasattr(os, "fork"):
        for job in jobs:
            _compile(*job)
        return True
    statuses = []
    for number, job in enumerate(jobs):
        if number >= (os.cpu_count() or 1):
            statuses.append(os.wait()[1])
        if os.fork() == 0:
            _run_child(*job)
    statuses += [os.wait()[1] for _ in range(len(jobs) - len(statuses))]
    return not any(statuses)


def _run_child(wheel: str, output: str) -> None:
    try:
        _compile(wheel, output)
    except BaseException:  # noqa: BLE001 - the child must not run the parent's code
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _compile(wheel: str, output: str) -> None:
    """Write the compiled modules of *wheel* to *output*, which appears when it is complete."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in sorted(_modules(wheel)):
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    # why not 9: four times as slow, for 1 % less
    compressor = zlib.compressobj(6, zlib.DEFLATED, _WBITS_GZIP)
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
