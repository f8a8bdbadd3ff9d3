"""Run a script from an offline bundle: the launcher, as it lies in every bundle.

    python BUNDLE/run.py [--bundle DIR] [--python PATH] [--prepare] [-q] [-v] SCRIPT [ARGS...]

Nothing but the standard library of Python 3.9 or newer, in two files that a site can review and copy:

run.py      this one, what happens at every start: an environment that was prepared for the same question before
            is found by the note that was left then, and SCRIPT is started in it.
prepare.py  what happens once per node: find the script's lock in bundle.json, choose target and interpreter, verify,
            install by hash, leave the note. Everything that is not plain sailing here goes there, errors too.

They are two because Python compiles its main file at every start: what a start does not need is not in it.

CACHE/launches/NOTE          path of the environment, then the question it answers
CACHE/environments/KEY       one environment: env/, and complete.json, written last
CACHE/environments/KEY.lock  held exclusively to make or remove it, shared by every job that runs in it

The cache is a folder that nobody else can write (`is_own`). Nothing is ever written into the bundle.
"""

import os
import sys

MANIFEST = "bundle.json"
POLICY = "/etc/offline-bundle/policy.json"
NOTE_FORMAT = "offline-bundle launch 1"
_PYTHON_VARIABLES = ("PYTHONHOME", "PYTHONPATH", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def main() -> int:
    """Start the script if that takes no more than a look at the note; else leave it all to prepare.py."""
    words = sys.argv[1:]
    if sys.platform != "win32":
        try:
            _start_by_note(words)
        except (OSError, UnicodeError):
            pass  # what is wrong, or only not prepared yet, prepare.py finds out and says
    if __package__:
        from wheelhouse import prepare
    else:
        sys.dont_write_bytecode = True  # nothing is written into the bundle
        sys.modules["run"] = sys.modules[__name__]
        sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
        try:
            import prepare  # type: ignore[import-not-found, no-redef]
        except ImportError as error:
            here = os.path.abspath(__file__)
            sys.exit(f"error: {error.name}.py is not beside {here}; copy it too from the bundle")
    return prepare.main(words)


def _start_by_note(words: "list[str]") -> None:
    """Replace this process by the script in its environment, or return where prepare.py has to look closer."""
    if os.environ.get("OFFLINE_BUNDLE_POLICY") or os.path.lexists(POLICY):
        return  # signatures are asked for: prepare.py looks at them at every start
    given = {
        "--bundle": os.path.dirname(os.path.abspath(__file__)),
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
    asked = question(bundle, os.path.abspath(python) if python else "", os.path.basename(rest[0]), block)
    for cache in filter(is_own, caches()):
        home = noted(cache, asked)
        lock = hold(home) if home else None
        if home and lock is not None:
            start(home, lock, bundle, rest[0], rest[1:])


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


# --- the question and its answer: prepare.py uses these too ------------------------------------------------------


def question(bundle: str, python: str, name: str, block: str, trust: "list[str] | None" = None) -> bytes:
    """All that the choice of an environment depends on; a changed bundle.json has another inode, size or time."""
    manifest = os.stat(os.path.join(bundle, MANIFEST))
    state = (manifest.st_ino, manifest.st_size, manifest.st_mtime_ns, manifest.st_ctime_ns)
    lines = [NOTE_FORMAT, *node_identity(), bundle, repr(state), *(trust or []), python, name, block]
    return os.fsencode("\n".join(lines))


def node_identity() -> "tuple[str, str, str]":
    """Operating system, machine and C library: ("Linux", "x86_64", "glibc 2.36"); "" for another library."""
    if sys.platform == "win32":
        return "Windows", _MACHINES.get(os.environ.get("PROCESSOR_ARCHITECTURE", "").lower(), "x86_64"), ""
    system = os.uname()
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        libc = ""
    machine = system.machine.lower()
    return system.sysname, _MACHINES.get(machine, machine), libc


def caches() -> "list[str]":
    """Where the cache may be, the preferred place first.

    OFFLINE_BUNDLE_CACHE and no other; else XDG_CACHE_HOME/offline-bundle, or ~/.cache/offline-bundle, and where that
    cannot be written TMPDIR/offline-bundle-UID.
    """
    chosen = os.environ.get("OFFLINE_BUNDLE_CACHE")
    if chosen:
        return [os.path.abspath(chosen)]
    home = os.environ.get("HOME") or os.environ.get("USERPROFILE")
    below = os.environ.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if home else "")
    user = os.getuid() if sys.platform != "win32" else os.environ.get("USERNAME", "user")
    temporary = os.environ.get("TMPDIR") or os.environ.get("TEMP") or "/tmp"  # noqa: S108
    last = os.path.join(os.path.abspath(temporary), "offline-bundle-" + str(user))
    return [os.path.join(below, "offline-bundle"), last] if os.path.isabs(below) else [last]


def is_own(folder: str) -> bool:
    """Whether *folder* is a real folder of this user's, which nobody else can write, replace, or have put there."""
    if sys.platform == "win32":
        return os.path.isdir(folder)
    try:
        found, parent = os.lstat(folder), os.stat(os.path.dirname(folder))
    except OSError:
        return False
    is_folder = found.st_mode & 0o170000 == 0o040000
    is_private = found.st_uid == os.getuid() and not found.st_mode & 0o022
    is_replaceable = parent.st_mode & 0o002 and not parent.st_mode & 0o1000
    return is_folder and is_private and not is_replaceable


def noted(cache: str, asked: bytes) -> "str | None":
    """The environment's folder by the note for this question, where there is one."""
    try:
        with open(note_path(cache, asked), "rb") as file:
            home, _, before = file.read().partition(b"\n")
    except OSError:
        return None
    return os.fsdecode(home) if before == asked else None


def note_path(cache: str, asked: bytes) -> str:
    """Name the note by a checksum: that is enough, because the note repeats the whole question."""
    import binascii

    return os.path.join(cache, "launches", "%08x" % binascii.crc32(asked))  # noqa: UP031


def hold(home: str) -> "int | None":
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
            _touch(marker(home))
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def is_complete(home: str) -> bool:
    """Whether *home* was finished, and its interpreter, to which env/bin/python links, is still there."""
    return os.path.exists(marker(home)) and os.path.exists(environment_python(home))


def marker(home: str) -> str:
    """The file that says that an environment is complete; its time is that of the last use."""
    return os.path.join(home, "complete.json")


def environment_python(home: str) -> str:
    """The interpreter of the environment at *home*."""
    if sys.platform == "win32":
        return os.path.join(home, "env", "Scripts", "python.exe")
    return os.path.join(home, "env", "bin", "python")


def job_variables(home: str, bundle: str) -> "dict[str, str]":
    """The environment variables of a script: its lock's packages and no others, and uv offline."""
    variables = {name: text for name, text in os.environ.items() if name not in _PYTHON_VARIABLES}
    variables["PATH"] = os.path.dirname(environment_python(home)) + os.pathsep + variables.get("PATH", os.defpath)
    variables["VIRTUAL_ENV"] = os.path.join(home, "env")
    variables["UV_OFFLINE"] = "1"
    variables["OFFLINE_BUNDLE"] = bundle
    return variables


def start(home: str, lock: int, bundle: str, script: str, arguments: "list[str]") -> int:
    """Replace this process by *script*: signals, exit code and streams are its own by construction.

    The descriptor *lock* goes along: the environment is held as long as the script runs.
    """
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


if __name__ == "__main__":
    sys.exit(main())
