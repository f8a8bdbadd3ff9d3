"""Unpack the Python interpreter that a bundle includes."""

import json
import os
import shutil
import subprocess
import sys

from ...disk.file_identity import read_regular
from ...disk.files import write_atomic
from ...disk.locks import FileLock
from ...disk.safe_folder import flush_tree
from ...errors import IntegrityError, NotInBundleError
from ...names import MANIFEST
from ...python.interpreters import Interpreter, describe_interpreter
from ...python.platforms import dotted_version, version_numbers
from ..trusted_bundle import DAMAGED_HINT
from ..warm_start import marker_path
from .contents import changed_files
from .python_archive import interpreter_path, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...bundle.manifest import Manifest
    from ..request import Request
    from .contents import FileTable
    from .plan import Plan

_COMPILE_LIBRARY = (
    "import compileall, sysconfig; "
    "compileall.compile_dir(sysconfig.get_path('stdlib'), quiet=2, workers=0)"
)


def bundled_interpreter(
    manifest: "Manifest",
    target: str,
    minor: "tuple[int, ...]",
    cache: str,
    *,
    free_threaded: bool,
) -> Interpreter:
    """Return the interpreter that the bundle includes for *target*, unpacked or to be unpacked.

    Where run.sh has unpacked the same one to start this program, it is that.
    """
    python = manifest.pythons[target]
    major, minor_number, patch = version_numbers(python.version)
    version = (major, minor_number, patch)
    this = os.path.realpath(sys.executable)
    bootstrap = os.path.join(os.path.realpath(cache), "bootstrap", "")
    is_same_build = ("t" in getattr(sys, "abiflags", "")) == free_threaded
    if this.startswith(bootstrap) and sys.version_info[:3] == version and is_same_build:
        return Interpreter(this, version, free_threaded=free_threaded)
    folder = os.path.join(cache, "python", str(manifest.files[python.path].sha256))
    path = interpreter_path(folder, minor, free_threaded=free_threaded)
    return Interpreter(
        path, version, free_threaded=free_threaded, archive=python.path, folder=folder
    )


def unpack_interpreter(plan: "Plan", request: "Request") -> None:
    """Verify the bundle's interpreter and unpack it, once per node, if *plan* uses it."""
    python = plan.interpreter
    if python.archive is None:
        return
    os.makedirs(os.path.dirname(python.folder), mode=0o700, exist_ok=True)
    marker = marker_path(python.folder)
    with FileLock(python.folder + ".lock"):
        if os.path.exists(marker):
            damaged = next(changed_files(python.folder, _files(marker), read=False), None)
            if damaged is None:
                os.utime(marker)
                return
            request.log(f"{damaged} is damaged: unpacking it again")
        content = plan.bundle.read(python.archive)
        request.log(f"Unpacking Python {dotted_version(python.version)} once for this node ...")
        shutil.rmtree(python.folder, ignore_errors=True)  # what a killed attempt left
        os.mkdir(python.folder, 0o700)
        try:
            files = unpack(content, python.folder)
            _check_unpacked(plan)
            _compile_library(python.path)
            flush_tree(python.folder)
            write_atomic(marker, json.dumps({"files": files}).encode(), durable=True)
        except IntegrityError as error:
            message = f"{python.archive} of the bundle is not used: {error}"
            raise IntegrityError(message, hint=DAMAGED_HINT) from None
        finally:
            if not os.path.exists(marker):
                shutil.rmtree(python.folder, ignore_errors=True)


def _files(marker: str) -> "FileTable":
    """Return the files of an unpacked interpreter; none if an earlier version unpacked it."""
    files = json.loads(read_regular(marker)).get("files", {})
    return files if isinstance(files, dict) else {}


def _check_unpacked(plan: "Plan") -> None:
    python = plan.interpreter
    if not os.path.isfile(python.path):
        raise IntegrityError(f"it has no {os.path.basename(python.path)}", hint=DAMAGED_HINT)
    started = describe_interpreter(python.path, plan.node)
    if isinstance(started, str):
        raise NotInBundleError(
            f"the bundle's Python {dotted_version(python.version)} ({python.archive}) does not run "
            f"on this node ({plan.node}): it {started}",
            hint="name another one with --python PATH; where the cache is mounted noexec, "
            "set OFFLINE_BUNDLE_CACHE",
        )
    if started.version != python.version:
        raise IntegrityError(
            f"it is Python {dotted_version(started.version)}, not "
            f"{dotted_version(python.version)} as {MANIFEST} has it",
            hint=DAMAGED_HINT,
        )


def _compile_library(python: str) -> None:
    """Compile the standard library, which the archive has no bytecode of, if jobs may write none.

    Elsewhere the first job that imports a module writes its bytecode, which is faster than
    compiling everything.
    """
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        command = [python, "-I", "-c", _COMPILE_LIBRARY]
        null = subprocess.DEVNULL
        subprocess.run(command, stdin=null, stdout=null, stderr=null, check=False)
