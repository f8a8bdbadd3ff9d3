"""Describe this machine as node.json, for `build --node`. Run it on an air-gapped node.

    python3 probe.py > node.json            (copy this file alone, or: offline-bundle probe)
    build-offline-bundle eval.py -o DIR --node node.json        (on a machine with a network)

Standard library of Python 3.6 or newer only. It writes nothing on the node, opens no connection,
and starts only programs with the names of Python and uv, each for a few seconds at most. What
cannot be determined is null. Of environment variables it includes the values of a fixed list, with
URLs without user, password and query; of other UV_ variables the names only.
"""

import contextlib
import json
import os
import platform
import re
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

TYPE_CHECKING = False  # true for type checkers: old Pythons have no such types
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from re import Pattern
    from typing import IO, Optional, TypeVar

    _Result = TypeVar("_Result")

FORMAT = 1
_SECONDS = 10
"""Time limit of a program."""
_AT_ONCE = 8
_MOST_PROGRAMS = 64
_LONGEST_ANSWER = 65536

_PYTHON_NAME = re.compile(r"(?:python|pypy)(?:3(?:\.[0-9]{1,2}t?)?)?(?:\.exe)?")
_PYTHON_VARIABLES = re.compile("PYTHON(?:HOME|PATH|EXECUTABLE|STARTUP)|__PYVENV_LAUNCHER__")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_SHOWN_VARIABLES = re.compile(
    "HOME|PATH|PYENV_ROOT|TMPDIR|XDG_(?:CACHE|CONFIG|DATA)_HOME|"
    "OFFLINE_BUNDLE(?:_(?:CACHE|CACHE_MAX|POLICY|PYTHON|UV))?|"
    "UV_(?:CACHE_DIR|CONFIG_FILE|DEFAULT_INDEX|EXTRA_INDEX_URL|FIND_LINKS|INDEX|INDEX_URL|LINK_MODE|"
    "NO_CACHE|NO_CONFIG|NO_INDEX|OFFLINE|PROJECT_ENVIRONMENT|SYSTEM_PYTHON|TOOL_DIR)|"
    "UV_PYTHON(?:_(?:DOWNLOADS|DOWNLOADS_JSON_URL|INSTALL_DIR|INSTALL_MIRROR|PREFERENCE))?"
)


def main() -> int:
    """Print the description; `--no-hostname` omits the machine's name."""
    arguments = sys.argv[1:]
    if set(arguments) - {"--no-hostname"}:
        print("usage: python3 probe.py [--no-hostname] > node.json", file=sys.stderr)
        return 0 if set(arguments) & {"-h", "--help"} else 2
    print(render(describe(with_hostname="--no-hostname" not in arguments)), end="")
    return 0


def render(node: "dict[str, object]") -> str:
    """Return node.json, in ASCII."""
    return json.dumps(node, indent=1, sort_keys=True) + "\n"


def describe(*, with_hostname: bool = True) -> "dict[str, object]":
    """Return what a build, or remote support, needs to know about this machine."""
    pythons, uvs = _describe_all(_python_paths(), _uv_paths())
    return {
        "format": FORMAT,
        "system": _attempt(platform.system) or None,
        "machine": _attempt(machine),
        "kernel": _attempt(platform.release) or None,
        "distribution": _attempt(_distribution),
        "hostname": (_attempt(platform.node) or None) if with_hostname else None,
        "libc": _attempt(libc),
        "macos": (_attempt(platform.mac_ver) or ("",))[0] or None,
        "pythons": pythons,
        "uv": uvs,
        "environment": _attempt(_variables),
        "caches": [_describe_cache(folder) for folder in _attempt(cache_candidates) or []],
        "user-namespaces": _attempt(_user_namespaces),
        "bubblewrap": next(_on_path(re.compile("bwrap")), None),
    }


def machine() -> str:
    """Return the processor as uv names it: x86_64, aarch64."""
    name = platform.machine().lower()
    return _MACHINES.get(name, name)


def libc() -> "dict[str, str | None] | None":
    """Return the C library: glibc from its own function, musl from its loader, or None."""
    if not sys.platform.startswith("linux"):
        return None
    text = _attempt(os.confstr, "CS_GNU_LIBC_VERSION") or _attempt(_loaded_glibc) or ""
    family, _, version = text.partition(" ")
    if family == "glibc":
        return {"family": "glibc", "version": version or None}
    for name in sorted(os.listdir("/lib")):
        if re.match(r"ld-musl-.*\.so\.1$", name):
            _, output = _run([os.path.join("/lib", name)])
            match = re.search(r"Version ([0-9]+(?:\.[0-9]+)*)", output)
            return {"family": "musl", "version": match.group(1) if match else None}
    return None


def _loaded_glibc() -> str:
    import ctypes  # noqa: PLC0415 - not every Python has it

    version = ctypes.CDLL("libc.so.6").gnu_get_libc_version
    version.restype = ctypes.c_char_p
    return "glibc " + str(version().decode())


def _distribution() -> "str | None":
    """Return PRETTY_NAME of /etc/os-release."""
    with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
        match = re.search("^PRETTY_NAME=(.*)$", file.read(), re.MULTILINE)
    return match.group(1).strip().strip("\"'")[:200] if match else None


def _attempt(function: "Callable[..., _Result]", *arguments: object) -> "Optional[_Result]":
    """Return what *function* returns, or None: one failure must not stop the others."""
    try:
        return function(*arguments)
    except Exception:  # noqa: BLE001 - null is the answer then
        return None


_SELF_DESCRIPTION = """
import json, os, struct, sys
try:
    import sysconfig
    get = sysconfig.get_config_var
except Exception:
    get = lambda name: None
path = sys.executable
base = getattr(sys, "base_prefix", sys.prefix)
if sys.prefix != base:
    inner = "python.exe" if os.name == "nt" else "bin/python%d.%d%s" % (
        sys.version_info[:2] + (getattr(sys, "abiflags", ""),))
    below = os.path.join(base, inner)
    path = below if os.path.exists(below) else getattr(sys, "_base_executable", path)
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except Exception:
    libc = ""
print(json.dumps({
    "path": os.path.realpath(path),
    "version": "%d.%d.%d" % sys.version_info[:3], "release": sys.version_info[3],
    "implementation": sys.implementation.name if hasattr(sys, "implementation") else "cpython",
    "free-threaded": bool(get("Py_GIL_DISABLED")), "debug": bool(get("Py_DEBUG")),
    "bits": struct.calcsize("P") * 8, "libc": libc.split(" ")[0] or None,
}))
"""


def _python_paths() -> "dict[str, str]":
    """Return path -> source: this one, PATH, uv or pyenv."""
    paths = {sys.executable: "this one"} if sys.executable else {}
    for path in _on_path(_PYTHON_NAME):
        paths.setdefault(path, "PATH")
    home = os.path.expanduser("~")
    variable = "APPDATA" if os.name == "nt" else "XDG_DATA_HOME"
    data = os.environ.get(variable) or os.path.join(home, ".local", "share")
    managed = os.environ.get("UV_PYTHON_INSTALL_DIR") or os.path.join(data, "uv", "python")
    pyenv = os.path.join(os.environ.get("PYENV_ROOT") or os.path.join(home, ".pyenv"), "versions")
    for folder, where in ((managed, "uv"), (pyenv, "pyenv")):
        for name in _listed(folder):
            for inner in (os.path.join(folder, name, "bin"), os.path.join(folder, name)):
                program = next(_programs(inner, _PYTHON_NAME), None)
                if program:
                    paths.setdefault(program, where)
                    break
    return paths


def _uv_paths() -> "list[str]":
    chosen = os.environ.get("OFFLINE_BUNDLE_UV")
    home = os.path.expanduser("~")
    usual = [os.path.join(home, *parts) for parts in ((".local", "bin"), (".cargo", "bin"))]
    name = re.compile(r"uv(?:\.exe)?")
    paths = [chosen] if chosen and os.path.isabs(chosen) else []
    paths += list(_on_path(name)) + [path for folder in usual for path in _programs(folder, name)]
    return list(dict.fromkeys(paths))


def _on_path(name: "Pattern[str]") -> "Iterator[str]":
    """Yield the programs on PATH whose whole name matches; relative folders are skipped."""
    for folder in dict.fromkeys(os.environ.get("PATH", os.defpath).split(os.pathsep)):
        if os.path.isabs(folder):
            yield from _programs(folder, name)


def _programs(folder: str, name: "Pattern[str]") -> "Iterator[str]":
    for entry in _listed(folder):
        path = os.path.join(folder, entry)
        if name.fullmatch(entry) and os.path.isfile(path) and os.access(path, os.X_OK):
            yield path


def _listed(folder: str) -> "list[str]":
    return sorted(_attempt(os.listdir, folder) or [])


def _describe_all(
    pythons: "dict[str, str]", uvs: "list[str]"
) -> "tuple[list[dict[str, object]], list[dict[str, object]]]":
    """Return the descriptions of all programs, each once; several run at a time."""
    commands = [[path, "-I", "-c", _SELF_DESCRIPTION] for path in _distinct(pythons)]
    commands += [[path, "--version"] for path in _distinct(uvs)]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        answers = list(threads.map(_run, commands[:_MOST_PROGRAMS]))
    descriptions: "dict[object, dict[str, object]]" = {}
    versions = []
    for (path, *options), (output, _) in zip(commands, answers):
        if options == ["--version"]:
            match = re.match(r"uv ([0-9][0-9A-Za-z.+-]*)", output)
            versions.append({"path": path, "version": match.group(1) if match else None})
            continue
        described = _attempt(json.loads, output)
        if isinstance(described, dict) and described.get("version"):
            descriptions.setdefault(described.get("path"), dict(described, found=pythons[path]))
    return list(descriptions.values()), versions


def _distinct(paths: "Iterable[str]") -> "Iterator[str]":
    """Yield paths of distinct files. A link into a virtual environment is a program of its own."""
    seen = set()
    for path in paths:
        folder = os.path.realpath(os.path.dirname(path))
        is_virtual = os.path.exists(os.path.join(os.path.dirname(folder), "pyvenv.cfg"))
        name = os.path.join(folder, os.path.basename(path))
        identity = name if is_virtual else os.path.realpath(path)
        if identity not in seen:
            seen.add(identity)
            yield path


def _run(command: "list[str]") -> "tuple[str, str]":
    """Return stdout and stderr of *command* within the time limit; then end it and its children."""
    try:
        null, pipe, environment = subprocess.DEVNULL, subprocess.PIPE, _clean_environment()
        process = subprocess.Popen(
            command, stdin=null, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
        )
    except (OSError, ValueError):
        return "", ""
    output = ["", ""]

    def read(index: int, stream: "IO[bytes]") -> None:
        with stream:
            output[index] = stream.read(_LONGEST_ANSWER).decode("utf-8", "replace")

    pipes = enumerate((process.stdout, process.stderr))
    readers = [threading.Thread(target=read, args=item, daemon=True) for item in pipes]
    deadline = time.time() + _SECONDS
    for reader in readers:
        reader.start()
    readers[0].join(max(0.0, deadline - time.time()))
    readers[1].join(min(1.0, max(0.0, deadline - time.time())))
    _end(process)
    for reader in readers:
        reader.join(1.0)
    return output[0], output[1]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill *process* and its session, unless it has ended."""
    with contextlib.suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, 9)
        else:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)


def _clean_environment() -> "dict[str, str]":
    items = os.environ.items()
    return {name: text for name, text in items if not _PYTHON_VARIABLES.fullmatch(name)}


def cache_candidates() -> "list[str]":
    """Return where the cache may be, as `cache_candidates` of the launcher does."""
    chosen = os.environ.get("OFFLINE_BUNDLE_CACHE")
    if chosen:
        return [os.path.abspath(chosen)]
    home = os.environ.get("HOME") or os.environ.get("USERPROFILE")
    below = os.environ.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if home else "")
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    temporary = os.environ.get("TMPDIR") or os.environ.get("TEMP") or "/tmp"  # noqa: S108 - the launcher looks there
    last = os.path.join(os.path.abspath(temporary), "offline-bundle-" + str(user))
    return [os.path.join(below, "offline-bundle"), last] if os.path.isabs(below) else [last]


def _describe_cache(folder: str) -> "dict[str, object]":
    """Describe whether the launcher can use *folder*, or the folder in which it would be made."""
    existing = folder
    while not os.path.lexists(existing) and os.path.dirname(existing) != existing:
        existing = os.path.dirname(existing)
    room = _attempt(os.statvfs, existing) if hasattr(os, "statvfs") else None
    return {
        "path": folder,
        "exists": existing == folder,
        "writable": os.access(existing, os.W_OK | os.X_OK),
        "fault": _attempt(cache_fault, folder),
        "free": room.f_bavail * room.f_frsize if room else None,
        "noexec": bool(room.f_flag & getattr(os, "ST_NOEXEC", 8)) if room else None,
        "filesystem": _attempt(_file_system, existing),
    }


def cache_fault(folder: str) -> "str | None":
    """Return why *folder* must not be the cache, as `cache_fault` of the launcher does."""
    if not os.path.lexists(folder) or not hasattr(os, "getuid"):
        return None
    user, real = os.getuid(), os.path.realpath(folder)
    trusted, groups = (user, 0, os.stat("/").st_uid), (0, os.getgid() if os.getgid() == user else 0)
    for path in [name for start in (folder, real) for name in _with_parents(start)]:
        where = os.path.dirname(path)
        above, link = os.stat(where), os.lstat(path)
        lists = _attempt(getattr(os, "listxattr", list), where) or ()
        is_own = above.st_gid in groups and "system.posix_acl_access" not in lists
        is_shared = above.st_mode & (0o002 if is_own else 0o022)
        if stat.S_ISLNK(link.st_mode) and (is_shared or link.st_uid not in trusted):
            return "is behind {}, a symbolic link that another user may have created".format(path)
        if above.st_uid not in trusted or (is_shared and not above.st_mode & 0o1000):
            return "is in {}, where another user may replace it".format(where)
    status = os.stat(folder)
    if not stat.S_ISDIR(status.st_mode):
        return "is not a folder"
    if status.st_uid != user:
        return "belongs to user {}, not to you (user {})".format(status.st_uid, user)
    return "can be written by others" if status.st_mode & 0o022 else None


def _with_parents(path: str) -> "list[str]":
    return [path] if path == "/" else [*_with_parents(os.path.dirname(path)), path]


def _file_system(folder: str) -> "str | None":
    """Return the type of the mount of *folder*, such as ext4 or nfs4 (proc(5), mountinfo)."""
    real = os.path.realpath(folder)
    best: "tuple[str, str | None]" = ("", None)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            point = before.split(" ")[4]
            mount = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), point)
            is_above = real == mount or real.startswith(mount.rstrip("/") + "/")
            if is_above and len(mount) >= len(best[0]):
                best = (mount, after.split(" ")[0])
    return best[1]


def _variables() -> "dict[str, str | None]":
    """Return the variables that uv and the launcher read; possible secrets are null."""
    shown: "dict[str, str | None]" = {}
    for name, text in os.environ.items():
        if _SHOWN_VARIABLES.fullmatch(name):
            shown[name] = without_secrets(text)
        elif name.startswith(("UV_", "OFFLINE_BUNDLE")):
            shown[name] = None
    return shown


def without_secrets(text: str) -> str:
    """Return *text* with no user, password, query or fragment in its URLs."""
    text = re.sub(r"://\S*@", "://", text)
    return re.sub(r"(://[^\s?#]*)[?#]\S*", r"\1", text)


_UNSHARE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
user = os.getuid()
if libc.unshare(0x10000000 | 0x40000000):
    sys.exit("unshare: " + os.strerror(ctypes.get_errno()))
try:
    open("/proc/self/uid_map", "w").write("%d %d 1" % (user, user))
except OSError as error:
    sys.exit("uid_map: " + error.strerror)
print("works")
"""


def _user_namespaces() -> "dict[str, object] | None":
    """Try whether user and network namespaces work: `run --no-network` and bubblewrap need them."""
    if not sys.platform.startswith("linux") or not sys.executable:
        return None
    output, fault = _run([sys.executable, "-I", "-c", _UNSHARE])
    works = output.strip() == "works"
    return {"works": works, "reason": None if works else fault.strip()[-200:] or "no answer"}


if __name__ == "__main__":
    sys.exit(main())
