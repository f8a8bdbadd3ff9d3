"""Start a script in an environment that an earlier start recorded."""

import os
import sys

from ..disk.cache_dir import cache_candidates, cache_fault
from ..disk.file_identity import file_identity, is_present, read_regular
from ..disk.node_identity import boot_id, node_identity
from ..names import MANIFEST, POLICY_PATH, PYTHON_VARIABLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

_RECORD_FORMAT = "offline-bundle launch 2"
_ANSWER_SECONDS = 5.0
_TYPE_BITS, _REGULAR = 0o170000, 0o100000

relocate_environment: "Optional[Callable[[str], str]]" = None
"""A hook for the uv shim: returns the folder to start in instead of the environment."""


def start_from_record(words: "list[str]", default_bundle: str) -> None:
    """Replace this process by the script in its environment; return where a cold start must decide.

    Only the common command lines, scripts and caches are handled; all others are left, with their
    errors, to the cold start.
    """
    if os.environ.get("OFFLINE_BUNDLE_POLICY") or is_present(POLICY_PATH):
        return  # signatures are required: the cold start checks them at every start
    options = {"--bundle": default_bundle, "--python": os.environ.get("OFFLINE_BUNDLE_PYTHON")}
    while len(words) > 1 and words[0] in options:
        options[words[0]] = words[1]
        words = words[2:]
    bundle, python = os.path.abspath(options["--bundle"] or ""), options["--python"] or ""
    if not words or words[0].startswith("-") or (python and not os.path.dirname(python)):
        return
    script = words[0]
    if os.stat(script).st_mode & _TYPE_BITS != _REGULAR:
        return  # reading a pipe here would leave nothing for Python to run
    with open(script, "rb") as file:
        block = plain_block(file.read().decode())
    if block is None:
        return
    python = os.path.abspath(python) if python else ""
    key = launch_key(bundle, python, os.path.basename(script), block)
    for cache in cache_candidates():
        if not os.path.isdir(cache) or cache_fault(cache):
            continue
        home = recorded_environment(cache, key)
        lock = lock_environment(home) if home else None
        if home and lock is not None:
            start_script(home, lock, bundle, script, words[1:])


def plain_block(text: str) -> "Optional[str]":
    """Return the metadata block (PEP 723) of a script with exactly one well-formed block, or None.

    A subset of `pep723.read_block`, on purpose.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if text.count("# /// script") != 1 or "\r" in "".join(lines) or "# /// script" not in lines:
        return None
    first = last = lines.index("# /// script") + 1
    above = first - 2
    while above >= 0 and lines[above].startswith("#"):
        if lines[above].startswith("# /// "):
            return None  # the block of another tool may contain these lines
        above -= 1
    while last < len(lines) and (lines[last] == "#" or lines[last].startswith("# ")):
        last += 1
    inside = lines[first:last]
    if inside.count("# ///") != 1 or inside[-1] != "# ///" or len(inside) < 2:
        return None
    return "".join(line[2:] + "\n" for line in inside[:-1])


def launch_key(
    bundle: str, python: str, name: str, block: str, policy_state: "Optional[list[str]]" = None
) -> bytes:
    """Return everything that the choice of an environment depends on."""
    state = file_identity(os.path.join(bundle, MANIFEST))
    policies = policy_state or []
    parts = [_RECORD_FORMAT, *node_identity(), bundle, state, *policies, python, name, block]
    return os.fsencode("\n".join(parts))


def recorded_environment(cache: str, key: bytes) -> "Optional[str]":
    """Return the folder of the environment that is recorded for *key*, or None."""
    try:
        home, _, recorded_key = read_regular(record_path(cache, key)).partition(b"\n")
    except OSError:
        return None
    return os.fsdecode(home) if recorded_key == key else None


def record_path(cache: str, key: bytes) -> str:
    """Return the path of the record for *key*: a checksum, because the record repeats the key."""
    import binascii

    return os.path.join(cache, "launches", "%08x" % binascii.crc32(key))  # noqa: UP031


def lock_environment(home: str) -> "Optional[int]":
    """Lock the complete environment at *home* against removal; return the descriptor, or None.

    The lock is shared. The descriptor is open for writing because flock on NFSv4 requires it.
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
    """Return whether *home* was finished, and its interpreter and mounted image still exist.

    What was not flushed before another start of the kernel is not complete until it was checked.
    """
    boot = _unflushed_boot(home)
    if boot is None or (boot and boot != boot_id()) or not os.path.exists(environment_python(home)):
        return False
    mounted = mounted_path(home)
    return not os.path.lexists(mounted) or answers_in_time(mounted)


def marker_path(home: str) -> str:
    """Return the file that marks an environment as complete; its time is that of the last use."""
    return os.path.join(home, "complete.json")


def awaits_check(home: str) -> bool:
    """Return whether *home* was finished in another boot without a flush: it may be damaged."""
    boot = _unflushed_boot(home)
    return bool(boot) and boot != boot_id()


def _unflushed_boot(home: str) -> "Optional[str]":
    """Return in which boot the environment at *home* was finished without a flush, or "".

    None if it is not finished, or if a power cut left its marker without content.
    """
    try:
        content = read_regular(marker_path(home)).decode()
    except (OSError, ValueError):
        return None
    # `json` takes longer to import than all the rest; quotes in texts are escaped
    boot = content.partition('"boot": "')[2].partition('"')[0]
    return boot if content.endswith("}") else None


def mounted_path(home: str) -> str:
    """Return the link into the image of an environment, which exists only if that is mounted."""
    return os.path.join(home, "mounted")


def answers_in_time(path: str) -> bool:
    """Return whether the file system of *path* answers within some seconds.

    Another thread asks, because nothing interrupts that call. It ends with this program.
    """
    import _thread

    answers: list[bool] = []
    lock = _thread.allocate_lock()
    lock.acquire()

    def ask() -> None:
        try:
            os.statvfs(path)  # the kernel answers `stat` for a stale mount, too
            answers.append(True)
        except OSError:
            pass
        lock.release()

    _thread.start_new_thread(ask, ())
    lock.acquire(timeout=_ANSWER_SECONDS)
    return bool(answers)


def environment_python(home: str) -> str:
    """Return the interpreter of the environment at *home*."""
    if sys.platform == "win32":
        return os.path.join(home, "env", "Scripts", "python.exe")
    return os.path.join(home, "env", "bin", "python")


def job_variables(home: str, bundle: str) -> "dict[str, str]":
    """Return the environment variables for a script: only its lock's packages, and uv offline."""
    variables = {name: text for name, text in os.environ.items() if name not in PYTHON_VARIABLES}
    programs = os.path.dirname(environment_python(home))
    variables["PATH"] = programs + os.pathsep + variables.get("PATH", os.defpath)
    variables["VIRTUAL_ENV"] = os.path.join(home, "env")
    variables["UV_OFFLINE"] = "1"
    variables["OFFLINE_BUNDLE"] = bundle
    variables["UV_CONFIG_FILE"] = os.path.join(bundle, "uv.toml")  # for `uv run` in a script
    variables.pop("OFFLINE_BUNDLE_DATA", None)  # of another bundle
    if os.path.isdir(os.path.join(bundle, "data")):
        variables["OFFLINE_BUNDLE_DATA"] = os.path.join(bundle, "data")
    return variables


def start_script(home: str, lock: int, bundle: str, script: str, arguments: "list[str]") -> int:
    """Replace this process by *script*, so that signals, exit code and streams are its own.

    The script inherits the descriptor *lock*: the environment is held as long as it runs.
    """
    if relocate_environment is not None:
        home = relocate_environment(home)
    python = environment_python(home)
    path = os.path.join(os.curdir, script) if script.startswith("-") else script
    command = [python, path, *arguments]
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
