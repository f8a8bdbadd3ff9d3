"""Check an environment that was made, before it is used."""

import csv
import json
import os
import re
import subprocess

from ...disk.file_identity import read_regular
from ...disk.files import remove_file, write_atomic
from ...disk.locks import FileLock
from ...disk.safe_folder import flush_tree
from ...errors import BundleError, first_problems
from ...processes import tool_variables
from ..warm_start import awaits_check, environment_python, marker_path
from .cache_cleanup import remove_unlocked
from .contents import changed_in_environment, truncated_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from ..request import Request
    from .plan import Plan

_DIST_INFO = re.compile(r"(?P<name>.+)-[^-]+\.dist-info")
_PRINT_PATHS = """
import os, sys
from importlib.util import MAGIC_NUMBER
folders = [path for path in sys.path if os.path.basename(path) == "site-packages"]
facts = [MAGIC_NUMBER.hex(), sys.prefix, *folders]
sys.stdout.flush()
sys.stdout.buffer.write(b"\\n" + os.fsencode("\\0".join(facts)))
sys.stdout.buffer.flush()
os._exit(0)
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


def check_after_boot(home: str, plan: "Plan", request: "Request", cache: str) -> None:
    """Check the environment at *home* if another boot has made it and may not have flushed it.

    A whole one is flushed, so this happens once, also where nodes share a cache: jobs of the other
    nodes may use it meanwhile. A damaged one no longer counts as complete.
    """
    if not awaits_check(home):
        return
    with FileLock(home + ".check.lock"), FileLock(home + ".lock", shared=True):
        if not awaits_check(home):  # another start has checked it
            return
        request.log(f"Checking {home}, which was made before this node started ...")
        damage = _damage(home, plan)
        if damage:
            request.log(f"{damage}: making the environment again")
            remove_file(marker_path(home))
            remove_unlocked(os.path.join(cache, "uv"))  # it has the same files
            return
        flush_environment(home)


def flush_environment(home: str) -> None:
    """Write the complete environment at *home* to the disk, so that no other boot checks it."""
    facts = json.loads(read_regular(marker_path(home)))
    if facts.pop("boot", None):
        flush_tree(home)
        write_atomic(marker_path(home), json.dumps(facts, indent=1).encode(), durable=True)


def _damage(home: str, plan: "Plan") -> "Optional[str]":
    """Return what is wrong with an environment, or None."""
    try:
        check_environment(home, plan)
        changed = next(changed_in_environment(home), None)
    except (BundleError, OSError, ValueError, TypeError, AttributeError) as error:
        return str(error)  # a damaged record of the contents may be anything
    return f"{changed} is damaged" if changed else None


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
    # Packages may print when Python starts (.pth files), or at its end: the last line counts.
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
