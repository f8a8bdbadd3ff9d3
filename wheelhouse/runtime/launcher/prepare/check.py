"""Check an environment that was made, before it is used."""

import csv
import os
import re
import subprocess

from ...errors import BundleError, first_problems
from ...processes import tool_variables
from ..warm_start import environment_python
from .contents import truncated_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .plan import Plan

_DIST_INFO = re.compile(r"(?P<name>.+)-[^-]+\.dist-info")
_PRINT_PATHS = """
import os, sys
from importlib.util import MAGIC_NUMBER
folders = [path for path in sys.path if os.path.basename(path) == "site-packages"]
facts = [MAGIC_NUMBER.hex(), sys.prefix, *folders]
sys.stdout.buffer.write(b"\\n" + os.fsencode("\\0".join(facts)))
"""


def check_environment(home: str, plan: "Plan") -> "tuple[bytes, list[str]]":
    """Raise BundleError unless the interpreter starts and each package of the lock is installed.

    An installer may report success with half the files. Return the magic number of the
    interpreter's bytecode, and its site-packages folders.
    """
    hint = "run with -v to see the commands; try another interpreter (--python) or uv"
    python = environment_python(home)
    magic, prefix, *folders = _started_paths(python) or ["", ""]
    if os.path.realpath(prefix) != os.path.realpath(os.path.join(home, "env")):
        message = f"the environment is not usable: {python} does not start in it"
        raise BundleError(message, hint=hint)
    installed = {name for folder in folders for name in _installed_packages(folder, plan)}
    missing = sorted(set(plan.lock.packages) - installed)
    if missing:
        message = "the environment is incomplete: packages of the lock are not installed"
        raise BundleError(message, hint=hint, problems=first_problems(missing))
    is_on_this_node = not (plan.ready_environment or plan.is_mounted)
    if is_on_this_node and not all(map(_has_recorded_files, folders)):
        truncated = [path for folder in folders[:1] for path in truncated_files(plan, folder)]
        if truncated:
            message = "the environment is incomplete: installed files are missing or truncated"
            raise BundleError(message, hint=hint, problems=first_problems(truncated))
    return bytes.fromhex(magic), folders


def _started_paths(python: str) -> "list[str]":
    """Start *python*; return its magic number, prefix and site-packages folders, or nothing."""
    try:
        result = subprocess.run(
            [python, "-I", "-c", _PRINT_PATHS],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=tool_variables(),
            check=False,
        )
    except OSError:
        return []
    # Packages may print when Python starts (.pth files): only the last line counts.
    paths = os.fsdecode(result.stdout).rpartition("\n")[2].split("\0")
    return paths if len(paths) > 1 else []


def _installed_packages(folder: str, plan: "Plan") -> "set[str]":
    """Return the normalized names of the packages that are completely installed in *folder*.

    Installers write RECORD last, with a line for INSTALLER (PEP 627, PEP 376); wheels have none.
    """
    names = set()
    for entry in os.listdir(folder):
        match = _DIST_INFO.fullmatch(entry)
        record = os.path.join(folder, entry, "RECORD")
        if not match or not os.path.isfile(os.path.join(folder, entry, "METADATA")):
            continue
        if not (plan.ready_environment or plan.image) and not _has_installer_line(record):
            continue
        names.add(re.sub(r"[-_.]+", "-", match["name"]).lower())
    return names


def _has_recorded_files(folder: str) -> bool:
    """Return whether each RECORD in *folder* lists files that are there with the recorded sizes.

    RECORD itself may be wrong: then the wheel decides, which is on a slower disk.
    """
    return all(
        _is_as_recorded(folder, entry)
        for entry in os.listdir(folder)
        if _DIST_INFO.fullmatch(entry)
    )


def _is_as_recorded(folder: str, dist_info: str) -> bool:
    record, names = os.path.join(folder, dist_info, "RECORD"), set()
    try:
        with open(record, encoding="utf-8", errors="surrogateescape", newline="") as file:
            for name, _, size in filter(None, csv.reader(file)):
                names.add(name)
                if os.stat(os.path.join(folder, name)).st_size != int(size or -1) and size:
                    return False
    except (OSError, ValueError, csv.Error):
        return False
    return dist_info + "/METADATA" in names


def _has_installer_line(record: str) -> bool:
    try:
        with open(record, "rb") as file:
            return b".dist-info/INSTALLER," in file.read().replace(b"\\", b"/")
    except OSError:
        return False
