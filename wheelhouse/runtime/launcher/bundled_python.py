"""Unpack the Python interpreter that a bundle includes."""

import os
import re
import sys

from ..errors import IntegrityError, NotInBundleError
from ..files import write_atomic
from ..interpreters import Interpreter, describe_interpreter
from ..locks import FileLock
from ..names import MANIFEST
from ..platforms import dotted_version, version_numbers
from .python_archive import interpreter_path
from .python_archive import unpack as unpack_python
from .trusted_manifest import DAMAGED_HINT, read_verified
from .warm_start import marker_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..platforms import Node
    from .lock_selection import Plan
    from .request import Request


def bundled_interpreter(
    manifest: "dict[str, Any]",
    target: str,
    minor: "tuple[int, ...]",
    cache: str,
    *,
    free_threaded: bool,
) -> Interpreter:
    """Return the interpreter that the bundle brings for *target*; `_unpack_interpreter` puts it there.

    Where run.sh has unpacked the same one to start this program with, it is that.
    """

    entry = manifest["pythons"][target]
    numbers = version_numbers(entry["version"])
    digest = str(manifest["files"].get(entry["path"], {}).get("sha256"))
    if len(numbers) != 3 or numbers[:2] != minor or not re.fullmatch("[0-9a-f]{64}", digest):
        raise IntegrityError(
            f"{MANIFEST} does not say what Python {entry['path']} is", hint=DAMAGED_HINT
        )
    version = (numbers[0], numbers[1], numbers[2])
    this = os.path.realpath(sys.executable)
    is_free_threaded = "t" in getattr(sys, "abiflags", "")
    if this.startswith(os.path.join(os.path.realpath(cache), "bootstrap", "")) and (
        (sys.version_info[:3], is_free_threaded) == (version, free_threaded)
    ):
        return Interpreter(this, version, free_threaded=free_threaded)
    folder = os.path.join(cache, "python", digest)
    path = interpreter_path(folder, minor, free_threaded=free_threaded)
    return Interpreter(
        path, version, free_threaded=free_threaded, archive=entry["path"], folder=folder
    )


def unpack_interpreter(plan: "Plan", request: "Request") -> None:
    """Verify the bundle's interpreter and unpack it, once for this node, if it is what *plan* wants."""
    import shutil

    chosen = plan.interpreter
    if chosen.archive is None:
        return
    os.makedirs(os.path.dirname(chosen.folder), mode=0o700, exist_ok=True)
    marker = marker_path(chosen.folder)
    with FileLock(chosen.folder + ".lock"):
        if os.path.exists(marker):
            os.utime(marker)
            return
        content = read_verified(request.bundle, plan.manifest, chosen.archive)
        request.say(f"Unpacking Python {dotted_version(chosen.version)} once for this node ...")
        shutil.rmtree(chosen.folder, ignore_errors=True)  # what an attempt that was killed has left
        os.mkdir(chosen.folder, 0o700)
        try:
            unpack_python(content, chosen.folder)
            _check_unpacked(chosen, plan.node)
            _compile_library(chosen.path)
            write_atomic(marker, b"{}")
        except IntegrityError as error:
            raise IntegrityError(
                f"{chosen.archive} of the bundle is not used: {error}", hint=DAMAGED_HINT
            ) from None
        finally:
            if not os.path.exists(marker):
                shutil.rmtree(chosen.folder, ignore_errors=True)


def _check_unpacked(chosen: Interpreter, node: "Node") -> None:
    if not os.path.isfile(chosen.path):
        raise IntegrityError(
            f"{chosen.archive} holds no {os.path.basename(chosen.path)}", hint=DAMAGED_HINT
        )
    found = describe_interpreter(chosen.path, node)
    if found is None:
        raise NotInBundleError(
            f"the bundle's Python {dotted_version(chosen.version)} ({chosen.archive}) does not run on this node ({node})",
            hint="name another one with --python PATH; where the cache is mounted noexec, set OFFLINE_BUNDLE_CACHE",
        )
    if found.version != chosen.version:
        raise IntegrityError(
            f"{chosen.archive} is Python {dotted_version(found.version)}, not as {MANIFEST} says",
            hint=DAMAGED_HINT,
        )


def _compile_library(python: str) -> None:
    """Compile the standard library, which the archive has no bytecode of, where jobs are told to write none.

    Elsewhere the first job to import a module writes its bytecode: compiling all of it takes longer than unpacking.
    """
    import subprocess

    if not os.environ.get("PYTHONDONTWRITEBYTECODE"):
        return
    code = "import compileall, sysconfig; compileall.compile_dir(sysconfig.get_path('stdlib'), quiet=2, workers=0)"
    quiet = subprocess.DEVNULL
    subprocess.run([python, "-I", "-c", code], stdin=quiet, stdout=quiet, stderr=quiet, check=False)
