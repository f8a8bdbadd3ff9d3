"""Make one environment in the cache, and check it before it is used."""

import json
import os
import re
import shutil
import subprocess

from ...bundle.policy import may_be_in_force
from ...disk.files import disk_usage, write_atomic
from ...errors import BundleError, IntegrityError, first_problems
from ...names import ENVIRONMENT_MARK
from ...processes import tool_variables
from ...python.platforms import dotted_version
from ..trusted_bundle import DAMAGED_HINT
from ..warm_start import environment_python, marker_path
from .bundled_python import unpack_interpreter
from .bytecode import install_bytecode, lock_bytecode
from .install import Tool, find_uv, install_with_pip, install_with_uv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...disk.locks import FileLock
    from ..request import Request
    from .plan import Plan

_DIST_INFO = re.compile(r"(?P<name>.+)-[^-]+\.dist-info")
_PRINT_PATHS = """
import os, sys
from importlib.util import MAGIC_NUMBER
folders = [path for path in sys.path if os.path.basename(path) == "site-packages"]
facts = [MAGIC_NUMBER.hex(), sys.prefix, *folders]
sys.stdout.buffer.write(b"\\n" + os.fsencode("\\0".join(facts)))
"""


def make_environment(
    home: str, plan: "Plan", request: "Request", cache: str, lock: "FileLock"
) -> None:
    """Make the environment at *home*, whose *lock* is held; a failure removes it.

    The marker of completeness is written last, after the result was checked: exit codes alone are
    not reliable where a parent ignores SIGCHLD or a wrapper hides a failure.
    """
    shutil.rmtree(home, ignore_errors=True)  # what a killed attempt left
    try:
        unpack_interpreter(plan, request)
        if plan.ready_environment:
            request.log(f"Linking to {plan.ready_environment}", 1)
            os.mkdir(home, 0o700)
            _link_environment(os.path.join(home, "env"), plan)
        else:
            _install(home, plan, request, cache, lock)
        magic, folders = _check_environment(home, plan)
        if not plan.ready_environment:
            install_bytecode(plan, request, magic, folders)
        facts = {
            "interpreter": plan.interpreter.path,
            "lock": plan.lock.lock,
            "size": disk_usage(home),
        }
        write_atomic(marker_path(home), json.dumps(facts, indent=1).encode())
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _install(home: str, plan: "Plan", request: "Request", cache: str, lock: "FileLock") -> None:
    """Install the lock's wheels into an environment of this node."""
    _check_wheels(plan)
    uv = find_uv(plan, cache)
    count = len(plan.lock.packages)
    packages = f"{count} package{'' if count == 1 else 's'}"
    python = f"Python {dotted_version(plan.interpreter.version)}"
    request.log(
        f"Preparing the environment of {request.name} ({packages}, {python}) once for this node ..."
    )
    os.mkdir(home, 0o700)
    tool = Tool(home, cache, lock, request)
    if uv:
        install_with_uv(tool, uv, plan)
    else:
        request.log("uv: not in the bundle for this node, nor on PATH; installing with pip", 1)
        install_with_pip(tool, plan)


def _check_wheels(plan: "Plan") -> None:
    """Raise one error for all wheels and bytecode that are missing or truncated.

    Their hashes are checked when they are installed.
    """
    problems = []
    files = plan.bundle.manifest.files
    wheels = sorted({package.wheel for package in plan.lock.packages.values()})
    for name in [*wheels, *lock_bytecode(plan)]:
        path, size = plan.bundle.path(name), files[name].size
        if not os.path.isfile(path):
            problems.append(f"{name} is missing")
        elif os.path.getsize(path) != size:
            problems.append(f"{name} has {os.path.getsize(path)} bytes instead of {size}")
    if problems:
        message = f"the bundle {plan.bundle.folder} is damaged"
        raise IntegrityError(message, hint=DAMAGED_HINT, problems=first_problems(problems))


def _link_environment(folder: str, plan: "Plan") -> None:
    """Make an environment whose packages stay in the bundle.

    Only what depends on the node is here: the interpreter, and the programs in bin/. Under a
    signature policy, each file of the bundle's environment is checked against the manifest now.
    """
    prefix = f"{plan.lock.environment}/"
    names = [name for name in plan.bundle.manifest.files if name.startswith(prefix)]
    for name in names if may_be_in_force() else ():
        plan.bundle.read(name)
    python = "python" + dotted_version(plan.interpreter.version[:2])
    packages = os.path.join("lib", python, "site-packages")
    os.makedirs(os.path.join(folder, os.path.dirname(packages)), mode=0o700)
    _write_interpreter(folder, python, plan)
    tops = {name[len(prefix) :].partition("/")[0] for name in names}
    for link in [*sorted(tops - {"bin", "lib", ENVIRONMENT_MARK}), packages]:
        source = plan.bundle.path(prefix + link)
        if os.path.isdir(source):
            os.symlink(source, os.path.join(folder, link))
        elif any(name.startswith(prefix + link) for name in names):
            raise IntegrityError(f"{source} is missing", hint=DAMAGED_HINT)
    for name in names:
        if name.startswith(f"{prefix}bin/"):
            program = os.path.join(folder, "bin", os.path.basename(name))
            write_atomic(program, plan.bundle.read(name), mode=0o700)


def _write_interpreter(folder: str, python: str, plan: "Plan") -> None:
    """Write bin/python and pyvenv.cfg, which make *folder* a virtual environment (PEP 405)."""
    os.mkdir(os.path.join(folder, "bin"), 0o700)
    for link in ("python", "python3", python):
        os.symlink(plan.interpreter.path, os.path.join(folder, "bin", link))
    lines = [
        f"home = {os.path.dirname(plan.interpreter.path)}",
        "include-system-site-packages = false",
        f"version = {dotted_version(plan.interpreter.version)}",
    ]
    content = os.fsencode("\n".join(lines) + "\n")
    write_atomic(os.path.join(folder, ENVIRONMENT_MARK), content)


def _check_environment(home: str, plan: "Plan") -> "tuple[bytes, list[str]]":
    """Raise BundleError unless the interpreter starts and each package of the lock is installed.

    Return the magic number of its bytecode, and its site-packages folders.
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
        if not plan.ready_environment and not _has_installer_line(record):
            continue
        names.add(re.sub(r"[-_.]+", "-", match["name"]).lower())
    return names


def _has_installer_line(record: str) -> bool:
    try:
        with open(record, "rb") as file:
            return b".dist-info/INSTALLER," in file.read().replace(b"\\", b"/")
    except OSError:
        return False
