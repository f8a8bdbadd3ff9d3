"""Start a script in an environment that an earlier start recorded."""

import os
import sys

from ..cache_dir import cache_candidates, cache_fault
from ..names import MANIFEST, POLICY_PATH, PYTHON_VARIABLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

RECORD_FORMAT = "offline-bundle launch 1"


_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def start_from_record(words: "list[str]", default_bundle: str) -> None:
    """Replace this process by the script in its environment, or return where prepare.py has to look closer."""
    if os.environ.get("OFFLINE_BUNDLE_POLICY") or os.path.lexists(POLICY_PATH):
        return  # signatures are asked for: prepare.py looks at them at every start
    given = {
        "--bundle": default_bundle,
        "--python": os.environ.get("OFFLINE_BUNDLE_PYTHON"),
    }
    rest = list(words)
    while len(rest) > 1 and rest[0] in given:
        given[rest[0]] = rest[1]
        rest = rest[2:]
    bundle, python = os.path.abspath(given["--bundle"] or ""), given["--python"] or ""
    if not rest or rest[0].startswith("-") or (python and not os.path.dirname(python)):
        return
    with open(rest[0], "rb") as file:
        block = _plain_block(file.read().decode())
    if block is None:
        return
    asked = launch_key(
        bundle, os.path.abspath(python) if python else "", os.path.basename(rest[0]), block
    )
    for cache in cache_candidates():
        if not os.path.isdir(cache) or cache_fault(cache):
            continue
        home = recorded_environment(cache, asked)
        lock = lock_environment(home) if home else None
        if home and lock is not None:
            start_script(home, lock, bundle, rest[0], rest[1:])


def _plain_block(text: str) -> "str | None":
    """The metadata block (PEP 723) of a script that has one and no second thought about it; else None."""
    lines = text.replace("\r\n", "\n").split("\n")
    if text.count("# /// script") != 1 or "\r" in "".join(lines) or "# /// script" not in lines:
        return None
    first = lines.index("# /// script") + 1
    last = first
    while last < len(lines) and (lines[last] == "#" or lines[last].startswith("# ")):
        last += 1
    inside = lines[first:last]
    if inside.count("# ///") != 1 or inside[-1] != "# ///" or len(inside) < 2:
        return None
    return "".join(line[2:] + "\n" for line in inside[:-1])


def launch_key(
    bundle: str, python: str, name: str, block: str, trust: "list[str] | None" = None
) -> bytes:
    """All that the choice of an environment depends on; a changed bundle.json has another inode, size or time."""
    manifest = os.stat(os.path.join(bundle, MANIFEST))
    state = (manifest.st_ino, manifest.st_size, manifest.st_mtime_ns, manifest.st_ctime_ns)
    lines = [
        RECORD_FORMAT,
        *node_identity(),
        bundle,
        repr(state),
        *(trust or []),
        python,
        name,
        block,
    ]
    return os.fsencode("\n".join(lines))


def node_identity() -> "tuple[str, str, str]":
    """Operating system, machine and C library: ("Linux", "x86_64", "glibc 2.36"); "" for another library."""
    if sys.platform == "win32":
        return (
            "Windows",
            _MACHINES.get(os.environ.get("PROCESSOR_ARCHITECTURE", "").lower(), "x86_64"),
            "",
        )
    system = os.uname()
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        libc = ""
    machine = system.machine.lower()
    return system.sysname, _MACHINES.get(machine, machine), libc


def recorded_environment(cache: str, asked: bytes) -> "str | None":
    """The environment's folder by the note for this question, where there is one."""
    try:
        with open(record_path(cache, asked), "rb") as file:
            home, _, before = file.read().partition(b"\n")
    except OSError:
        return None
    return os.fsdecode(home) if before == asked else None


def record_path(cache: str, asked: bytes) -> str:
    """Name the note by a checksum: that is enough, because the note repeats the whole question."""
    import binascii

    return os.path.join(cache, "launches", "%08x" % binascii.crc32(asked))  # noqa: UP031


def lock_environment(home: str) -> "int | None":
    """Hold the complete environment at *home* against removal: the descriptor of a shared lock; None if there is none.

    The descriptor is open for writing because flock on NFSv4 asks for that.
    """
    if sys.platform == "win32":
        return -1 if is_complete(home) else None
    import fcntl

    try:
        descriptor = os.open(home + ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if is_complete(home):
            _touch(marker_path(home))
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def is_complete(home: str) -> bool:
    """Whether *home* was finished, and its interpreter, to which env/bin/python links, is still there."""
    return os.path.exists(marker_path(home)) and os.path.exists(environment_python(home))


def marker_path(home: str) -> str:
    """The file that says that an environment is complete; its time is that of the last use."""
    return os.path.join(home, "complete.json")


def environment_python(home: str) -> str:
    """The interpreter of the environment at *home*."""
    if sys.platform == "win32":
        return os.path.join(home, "env", "Scripts", "python.exe")
    return os.path.join(home, "env", "bin", "python")


def job_variables(home: str, bundle: str) -> "dict[str, str]":
    """The environment variables of a script: its lock's packages and no others, and uv offline."""
    variables = {name: text for name, text in os.environ.items() if name not in PYTHON_VARIABLES}
    variables["PATH"] = (
        os.path.dirname(environment_python(home)) + os.pathsep + variables.get("PATH", os.defpath)
    )
    variables["VIRTUAL_ENV"] = os.path.join(home, "env")
    variables["UV_OFFLINE"] = "1"
    variables["OFFLINE_BUNDLE"] = bundle
    return variables


relocate_environment: "Optional[Callable[[str], str]]" = None
"""A hook for the uv shim: returns the folder to start in instead of the environment."""


def start_script(home: str, lock: int, bundle: str, script: str, arguments: "list[str]") -> int:
    """Replace this process by *script*: signals, exit code and streams are its own by construction.

    The descriptor *lock* goes along: the environment is held as long as the script runs.
    """
    if relocate_environment is not None:
        home = relocate_environment(home)
    python = environment_python(home)
    path = os.path.join(os.curdir, script) if script.startswith("-") else script
    command = [python, path] + list(arguments)  # noqa: RUF005
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform == "win32":
        import subprocess

        return subprocess.call(command, env=job_variables(home, bundle))
    os.set_inheritable(lock, True)  # noqa: FBT003 - it takes no keywords
    return os.execve(python, command, job_variables(home, bundle))  # noqa: S606 - it never returns


def _touch(path: str) -> None:
    try:
        os.utime(path)
    except OSError:
        pass
