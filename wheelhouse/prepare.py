"""Prepare the environment of a script from an offline bundle: what the launcher, run.py, does once per node.

1. reads the metadata block of SCRIPT (PEP 723) and finds the lock in BUNDLE/bundle.json that was made for it;
2. picks the target of the bundle that fits this node, and an interpreter;
3. verifies the lock against bundle.json, and lets uv (else pip) install from it into the cache, by hash;
4. leaves a note, by which the next start finds the environment, and starts SCRIPT.

What it never does: write into the bundle, need the network, run anything from the bundle that does not match
its digest in bundle.json, or use a cache folder that somebody else could write.

CACHE/uv/, CACHE/uv-bin/     uv's own cache, and the verified copy of the bundle's uv
CACHE/python/DIGEST          the bundle's interpreter, where it has one: verified, and unpacked by interpreter.py

The rest of the cache is described in run.py. This module needs nothing but the standard library of Python 3.9 or newer.
"""

import os
import sys

TYPE_CHECKING = False  # `typing` itself is slow to import; type checkers take this name for true
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Optional, Self


def _leave_old_python() -> None:
    """Start again under a Python on PATH that is new enough, or exit. This runs on Python 3.6 as well."""
    import subprocess

    question = "import sys; sys.exit(sys.version_info < (3, 9))"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        for minor in range(15, 8, -1):
            python = os.path.join(folder, f"python3.{minor}")
            if not os.access(python, os.X_OK):
                continue
            try:  # a pyenv shim is there for every version and fails for most
                failed = subprocess.call([python, "-c", question], stderr=subprocess.DEVNULL)
            except OSError:
                continue
            if not failed:
                os.execv(python, [python] + sys.argv)  # noqa: RUF005, S606
    version = sys.version.split()[0]
    sys.exit(f"error: run.py needs Python 3.9 or newer; this is {version}, and PATH has no newer one")


if sys.version_info < (3, 9):  # noqa: UP036
    _leave_old_python()

if __package__:
    from wheelhouse import policy, run
else:  # beside run.py in a bundle
    import policy  # type: ignore[import-not-found, no-redef]
    import run  # type: ignore[import-not-found, no-redef]

MANIFEST = run.MANIFEST
MANIFEST_FORMAT = 1
DEFAULT_CACHE_LIMIT = "20G"
UNUSED_DAYS = 30


class LaunchError(Exception):
    """A launch that cannot go on. *code* is the exit code, *hint* what to do next."""

    def __init__(self, code: int, message: str, hint: "Optional[str]" = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


def main(argv: "Optional[Sequence[str]]" = None) -> int:
    """Do what the command line says; return the exit code. On POSIX a started script never returns here."""
    try:
        options = _parse_command_line(list(sys.argv[1:] if argv is None else argv))
        if options is None:
            print(USAGE)
            return 0
        return launch(**options)
    except LaunchError as error:
        return tell(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def tell(error: LaunchError) -> int:
    """Say on stderr what is wrong and what to do next; return the exit code."""
    print("error: " + error.message, file=sys.stderr)
    if error.hint:
        print("hint: " + error.hint, file=sys.stderr)
    return error.code


def launch(  # noqa: PLR0913
    script: str,
    arguments: "Sequence[str]" = (),
    *,
    bundle: "Optional[str]" = None,
    python: "Optional[str]" = None,
    prepare_only: bool = False,
    verbosity: int = 0,
) -> int:
    """Replace this process by *script* in its environment; with *prepare_only* print that one's folder."""
    environment = prepare(script, bundle=bundle, python=python, verbosity=verbosity)
    if prepare_only:
        print(environment.folder)
        return 0
    return run.start(environment.home, environment.descriptor, environment.bundle, script, list(arguments))


def prepare(
    script: str, *, bundle: "Optional[str]" = None, python: "Optional[str]" = None, verbosity: int = 0
) -> "Environment":
    """Return the complete environment of *script*, made now if need be, and held against removal.

    *bundle* defaults to the folder of this file, *python* to OFFLINE_BUNDLE_PYTHON and then to a search.
    Verbosity -1 is quiet, 0 says when something takes time, 1 explains. Raises LaunchError.
    """
    request = _Request(script, bundle, python, verbosity)
    cache = cache_directory()
    environment = _recall(request, cache)
    if environment is None:
        try:
            environment = _find_and_prepare(request, cache)
        except OSError as error:
            raise _explained(error, cache) from error
        _note(request, cache, environment)
    return environment


def find_interpreter(minor: "tuple[int, int]", requires: "Optional[str]" = None) -> "Optional[str]":
    """Return the path of this machine's first CPython of *minor* that *requires* admits, as a launch looks for it."""
    found = _Interpreters(None, _Node()).of_minor(minor)
    return next((python.path for python in found if python_matches(requires, python.version)), None)


class Environment:
    """A virtual environment that is complete, and stays while this process holds *descriptor*, a shared lock."""

    def __init__(self, home: str, bundle: str, descriptor: int) -> None:
        self.home = home
        self.folder = os.path.join(home, "env")
        self.python = run.environment_python(home)
        self.bundle = bundle
        self.descriptor = descriptor

    def variables(self) -> "dict[str, str]":
        """Return the environment variables for a script: its lock's packages, no others, and uv offline."""
        return run.job_variables(self.home, self.bundle)

    def release(self) -> None:
        """Let it be removed, should pruning come to that."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class FileLock:
    """An advisory lock between processes on the file at *path*, which is made if need be and never removed.

    It ends with `release()` or the process. A child that inherits `descriptor` keeps it: flock belongs to the
    open file. The descriptor is open for writing because flock on NFSv4 asks for that. Windows has exclusive
    locks only; there a shared lock waits for the exclusive one and then holds nothing.
    """

    def __init__(self, path: "str | os.PathLike[str]", *, shared: bool = False) -> None:
        self.path = os.fspath(path)
        self.shared = shared
        self.descriptor: Optional[int] = None

    def acquire(self, *, block: bool = True) -> bool:
        """Take the lock; without *block* return False where another process holds it. Raises OSError."""
        if self.descriptor is not None:
            raise RuntimeError(f"{self.path} is locked by this object already")
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock_descriptor(descriptor, shared=self.shared, block=block)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, (BlockingIOError, PermissionError)):  # flock's way and Windows' way to say: held
                return False
            raise
        self.descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock up; nothing happens where it is not held."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> "Self":
        """Wait for the lock."""
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the lock up."""
        self.release()


def _lock_descriptor(descriptor: int, *, shared: bool, block: bool) -> None:
    if sys.platform != "win32":
        import fcntl

        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind if block else kind | fcntl.LOCK_NB)
        return
    import msvcrt

    while True:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK if block else msvcrt.LK_NBLCK, 1)
            break
        except OSError:  # LK_LOCK gives up after ten seconds
            if not block:
                raise
    if shared:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)


def cache_directory() -> str:
    """Return the cache folder, made with mode 0700 if need be, after checking that nobody else can write it.

    OFFLINE_BUNDLE_CACHE, else XDG_CACHE_HOME/offline-bundle, else ~/.cache/offline-bundle; where that cannot
    be written, TMPDIR/offline-bundle-UID. Raises LaunchError for one that somebody else made or may change.
    """
    *preferred, last = run.caches()
    for folder in preferred:
        try:
            if os.access(_own_directory(folder), os.W_OK | os.X_OK):
                return folder
        except OSError:
            continue  # a home that is missing, full or read-only: the temporary folder will do
    return _own_directory(last)


# --- reading scripts: the builder uses these too, so that both sides agree ----------------------------------


def read_block(text: str) -> "Optional[str]":
    r"""Return the TOML text of the `script` block of *text*, or None where there is none.

    Line by line the reference regular expression of PEP 723, by which a block runs to the last `# ///` of
    its comment lines: `(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$`; but a block
    without a line is one, as it is to uv and pipx. Where the expression would silently see nothing (a block that
    is not closed, or comes twice), LaunchError 2 names the line.
    """
    lines = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    block = None
    unclosed = 0
    index = 0
    while index < len(lines):
        kind = _opened_block(lines[index])
        end = _block_end(lines, index) if kind else 0
        if kind == "script" and not end:
            unclosed = unclosed or index + 1
        elif kind == "script":
            if block is not None or "# /// script" in lines[index + 1 : end]:
                message = f"line {index + 1}: a second `# /// script` block begins or is inside this one"
                raise LaunchError(2, message, "a script has one such block: merge them")
            if unclosed:
                break
            block = "".join(line[2:] + "\n" for line in lines[index + 1 : end])
        index = max(index + 1, end + 1 if end else 0)
    if unclosed and block is None:
        raise LaunchError(
            2,
            f"line {unclosed}: the `# /// script` block is not closed",
            "every line of it begins with `#`, and the last one is `# ///`",
        )
    return block


def _opened_block(line: str) -> str:
    """Type of the block that *line* opens, or an empty text."""
    kind = line[6:] if line.startswith("# /// ") else ""
    return kind if kind.replace("-", "a").isalnum() and kind.isascii() else ""


def _block_end(lines: "list[str]", start: int) -> int:
    """Index of the last `# ///` in the comment lines after *start*; 0 for none."""
    end = 0
    for index in range(start + 1, len(lines)):
        line = lines[index]
        if line != "#" and not line.startswith("# "):
            break
        if line == "# ///":
            end = index
    return end


def block_digest(block: str) -> str:
    """Return the sha256 of a metadata block, the same for every kind of line ending."""
    return _sha256(block.replace("\r\n", "\n").replace("\r", "\n").encode())


def settings_digest(tool_uv: "dict[str, Any]") -> str:
    """Return the sha256 of a [tool.uv] table as canonical JSON ({} where the script has none)."""
    import json

    text = json.dumps(tool_uv, sort_keys=True, separators=(",", ":"), default=lambda moment: moment.isoformat())
    return _sha256(text.encode())


def canonical_requirement(text: str) -> str:
    """Return a PEP 508 requirement in one spelling: PEP 503 name, sorted extras and specifiers, plain marker.

    The address of a URL requirement is kept as it is; so is text that is no requirement.
    """
    import re

    match = re.match(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([^]]*)\])?\s*(.*)$", text, re.DOTALL)
    if not match:
        return " ".join(text.split())
    name = re.sub(r"[-_.]+", "-", match[1]).lower()
    extras = sorted({re.sub(r"[-_.]+", "-", extra.strip()).lower() for extra in (match[2] or "").split(",")} - {""})
    if match[3].startswith("@"):
        address, _, marker = re.sub(r"\s+;", "\n;", match[3][1:].strip(), count=1).partition("\n;")
        version = " @ " + address.strip()
        separator = " ; "
    else:
        specifiers, _, marker = match[3].partition(";")
        version = ",".join(_canonical_specifiers(specifiers.strip().lstrip("(").rstrip(")")))
        separator = "; "
    marker = _canonical_marker(marker)
    return name + (f"[{','.join(extras)}]" if extras else "") + version + (separator + marker if marker else "")


def python_matches(requires: "Optional[str]", version: "tuple[int, int, int]") -> bool:
    """Tell whether a released Python *version* satisfies `requires-python`: PEP 440, but for one thing.

    `==3.12` means 3.12.0 there, but sites write it for any 3.12, and that is how uv runs it: so does this.
    Raises LaunchError 2 for text that is no specifier.
    """
    return all(_clause_matches(clause, version) for clause in _canonical_specifiers(requires or ""))


def _canonical_specifiers(text: str) -> "list[str]":
    return sorted({"".join(clause.split()).lower() for clause in text.split(",") if clause.strip()})


def _canonical_marker(marker: str) -> str:
    import re

    tokens = re.findall(r"'[^']*'|\"[^\"]*\"|[()]|[<>=!~]+|[^\s()<>=!~'\"]+|.", " ".join(marker.split()))
    quoted = [f'"{token[1:-1]}"' if token[0] == "'" and '"' not in token else token for token in tokens]
    return " ".join(token for token in quoted if token.strip())


def _clause_matches(clause: str, version: "tuple[int, int, int]") -> bool:
    """Evaluate one specifier. A release sorts after its own pre-releases and before its post-releases."""
    import re

    if clause.startswith("==="):
        return clause[3:] == _dotted(version)
    match = re.fullmatch(r"(~=|==|!=|<=|>=|<|>)v?(\d+(?:\.\d+)*)(\.\*|[-_.]?(?:[abcpr]|dev)[-_.a-z\d]*)?", clause)
    operator, release, suffix = match.groups("") if match else ("", "", "")
    wanted = [int(part) for part in release.split(".") if part]
    wildcard = suffix == ".*"
    if not match or (wildcard and operator not in ("==", "!=")) or (operator == "~=" and len(wanted) < 2):
        message = f"requires-python: {clause!r} is not a version specifier (PEP 440)"
        raise LaunchError(2, message, "write it like >=3.10 or ==3.12.*")
    length = max(len(wanted), 3)
    have = _padded(version, length)
    if wildcard or (operator == "==" and len(wanted) == 2 and not suffix):
        return (have[: len(wanted)] == wanted) == (operator == "==")
    if operator == "~=" and have[: len(wanted) - 1] != wanted[:-1]:
        return False
    ours, theirs = (have, 0), (_padded(wanted, length), _suffix_order(suffix))
    order = "<" if ours < theirs else ">" if ours > theirs else "="
    return order in {"==": "=", "!=": "<>", "<=": "<=", ">=": ">=", "~=": ">=", "<": "<", ">": ">"}[operator]


def _padded(version: "Sequence[int]", length: int) -> "list[int]":
    return list(version) + [0] * (length - len(version))


def _suffix_order(suffix: str) -> int:
    """-1 for a pre-release or a development release, 1 for a post-release, 0 for the release itself."""
    return 0 if not suffix else 1 if suffix.lstrip("-_.").startswith(("post", "rev", "r1")) else -1


# --- the command line ---------------------------------------------------------------------------------------

USAGE = f"""\
usage: python run.py [--bundle DIR] [--python PATH] [--prepare] [-q] [-v] SCRIPT [ARGS...]

Run a script from an offline bundle, in an environment that is made once for this node.

  --bundle DIR   the bundle (default: the folder of run.py)
  --python PATH  interpreter to use (default: search for one that fits)
  --prepare      only make the environment, and print its folder
  -q             say nothing but errors
  -v             say what is chosen, and why
  -h, --help     show this text

Options come before SCRIPT; all that follows it belongs to the script.

Environment variables:
  OFFLINE_BUNDLE_CACHE      folder for environments, of your own and on this node
                            (default: XDG_CACHE_HOME/offline-bundle, or ~/.cache/offline-bundle)
  OFFLINE_BUNDLE_CACHE_MAX  their size together (default: {DEFAULT_CACHE_LIMIT}); the longest unused go first,
                            and those that were not used for {UNUSED_DAYS} days go anyway
  OFFLINE_BUNDLE_PYTHON     as --python
  OFFLINE_BUNDLE_UV         uv to use instead of the bundle's

The script does not see PYTHONPATH and PYTHONHOME: its packages come from the bundle."""


def _parse_command_line(argv: "list[str]") -> "Optional[dict[str, Any]]":
    """Return the arguments of `launch`, or None where help is asked for. argparse is slow to import."""
    options: dict[str, Any] = {}
    flags: dict[str, dict[str, Any]] = {
        "--prepare": {"prepare_only": True},
        "-q": {"verbosity": -1},
        "-v": {"verbosity": 1},
    }
    words = iter(argv)
    for word in words:
        name, assigned, value = word.partition("=")
        if word in ("-h", "--help"):
            return None
        if word in flags:
            options.update(flags[word])
        elif name in ("--bundle", "--python"):
            value = value if assigned else next(words, "")
            if not value:
                raise LaunchError(2, f"{name} needs a value", "run.py --help shows the options")
            options[name[2:]] = value
        elif word.startswith("-") and word != "--":
            raise LaunchError(2, f"there is no option {word} before SCRIPT", "run.py --help shows the options")
        else:
            script = next(words, "") if word == "--" else word
            return {**options, "script": script, "arguments": list(words)} if script else _no_script()
    return _no_script()


def _no_script() -> "dict[str, Any]":
    raise LaunchError(2, "no SCRIPT is given", "run.py --help shows the usage")


# --- warm start: what an earlier start found out ------------------------------------------------------------


class _Request:
    """What is asked for: a script, the bundle it shall come from, and perhaps an interpreter."""

    def __init__(self, script: str, bundle: "Optional[str]", python: "Optional[str]", verbosity: int) -> None:
        python = python or os.environ.get("OFFLINE_BUNDLE_PYTHON")
        self.script = script
        self.name = os.path.basename(script)
        self.verbosity = verbosity
        self.bundle = _bundle_directory(bundle)
        self.block = _script_block(script, self.bundle)
        self.python = _explicit_program(python, "interpreter") if python else None
        trust = _trusted(policy.policy_state, self.bundle) if policy.may_be_in_force() else []
        self.question = run.question(self.bundle, self.python or "", self.name, self.block, trust)

    def say(self, message: str, verbosity: int = 0) -> None:
        """Tell the user on stderr, at this verbosity or a higher one."""
        if self.verbosity >= verbosity:
            print(message, file=sys.stderr, flush=True)


def _recall(request: _Request, cache: str) -> "Optional[Environment]":
    """Return the environment that answered the same question before, if it is still complete."""
    home = run.noted(cache, request.question)
    return _use(home, request.bundle) if home else None


def _note(request: _Request, cache: str, environment: Environment) -> None:
    """Note for the next start which environment answered; a note that cannot be written only costs time."""
    try:
        os.makedirs(os.path.join(cache, "launches"), mode=0o700, exist_ok=True)
        content = os.fsencode(environment.home) + b"\n" + request.question
        _write_atomically(run.note_path(cache, request.question), content)
    except OSError as error:
        request.say(f"this choice could not be noted for the next start: {error}", 1)


def _use(home: str, bundle: str) -> "Optional[Environment]":
    """Return the environment at *home*, held against removal, or None while it is not complete."""
    descriptor = run.hold(home)
    return None if descriptor is None else Environment(home, bundle, descriptor)


_PYTHON_VARIABLES = ("PYTHONHOME", "PYTHONPATH", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV")


def _bundle_directory(bundle: "Optional[str]") -> str:
    here = os.path.dirname(os.path.abspath(__file__))
    folder = os.path.abspath(bundle or here)
    if not os.path.isfile(os.path.join(folder, MANIFEST)):
        raise LaunchError(
            2,
            f"{folder} is not a bundle: it has no {MANIFEST}",
            "name the folder that `build-offline-bundle -o DIR` made: --bundle DIR",
        )
    return folder


def _script_block(script: str, bundle: str) -> str:
    try:
        with open(script, "rb") as file:
            block = read_block(file.read().decode())
    except UnicodeDecodeError as error:
        raise LaunchError(2, f"{script} is not UTF-8: {error}", "save it as UTF-8") from None
    except OSError as error:
        bundled = os.path.join(bundle, "scripts", os.path.basename(script))
        hint = f"the bundle has {bundled}" if os.path.isfile(bundled) else None
        raise LaunchError(2, f"{script} cannot be read: {error.strerror}", hint) from None
    except LaunchError as error:
        raise LaunchError(2, f"{script}: {error.message}", error.hint) from None
    if block is None:
        raise LaunchError(
            2,
            f"{script} has no inline metadata",
            "begin it with a `# /// script` block that lists its dependencies (PEP 723)",
        )
    return block


def _explicit_program(program: str, kind: str) -> str:
    """Return the absolute path of a program that the user named by a path, or by a name on PATH."""
    path = os.path.abspath(program) if os.path.dirname(program) else _which(program)
    if not path or not os.access(path, os.X_OK) or os.path.isdir(path):
        raise LaunchError(2, f"there is no {kind} {program} that can be run", "check its path and permissions")
    return path


def _which(program: str) -> "Optional[str]":
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        for suffix in ("", ".exe") if sys.platform == "win32" else ("",):
            path = os.path.join(os.path.abspath(folder), program + suffix) if folder else ""
            if path and os.path.isfile(path) and os.access(path, os.X_OK):
                return path
    return None


# --- cache folder: nobody else's ----------------------------------------------------------------------------


def _own_directory(folder: str) -> str:
    """Make *folder* with mode 0700, or check the one that is there. Raises OSError if it cannot be made."""
    try:
        os.mkdir(folder, 0o700)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except FileExistsError:
        pass
    if sys.platform != "win32":
        _refuse_foreign(folder)
    return folder


def _refuse_foreign(folder: str) -> None:
    """Raise LaunchError for a cache folder that another user may have filled, or may change."""
    import stat

    parent = os.stat(os.path.dirname(folder))
    link = os.lstat(folder)
    found = os.stat(folder)
    user = os.getuid()
    others_make_entries = parent.st_mode & stat.S_IWOTH
    fault = None
    if stat.S_ISLNK(link.st_mode) and (others_make_entries or link.st_uid not in (user, 0)):
        fault = "is a symbolic link that somebody else may have put there"
    elif others_make_entries and not parent.st_mode & stat.S_ISVTX:
        fault = "is in a folder where anybody may replace it (no sticky bit)"
    elif not stat.S_ISDIR(found.st_mode):
        fault = "is not a folder"
    elif found.st_uid != user:
        fault = f"belongs to user {found.st_uid}, not to you (user {user})"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        fault = "can be written by others"
    if fault:
        raise LaunchError(
            1,
            f"the cache {folder} {fault}: not used (owner {found.st_uid}, mode {found.st_mode & 0o7777:04o})",
            "remove it (or, if only you have written there: chmod go-w), "
            "or set OFFLINE_BUNDLE_CACHE to a folder of your own with mode 0700",
        )


# --- cold start: manifest, metadata, lock -------------------------------------------------------------------


def _find_and_prepare(request: _Request, cache: str) -> Environment:
    """Go the whole way; once more when a file does not match because the bundle was updated meanwhile."""
    manifest = read_manifest(request.bundle)
    try:
        return _prepare_once(_make_plan(request, manifest, cache), request, cache)
    except LaunchError as error:
        newer = read_manifest(request.bundle)
        if error.code != 5 or newer == manifest:
            raise
    return _prepare_once(_make_plan(request, newer, cache), request, cache)


def _make_plan(request: _Request, manifest: "dict[str, Any]", cache: str) -> "_Plan":
    interpreters = _Interpreters(request.python, _Node(), cache)
    metadata = _read_metadata(request, manifest, interpreters)
    scripts = _bundled_scripts(request, manifest, metadata)
    return _choose(request, manifest, scripts, metadata, interpreters)


class _Plan:
    """What is going to be prepared: one lock of the bundle, with one interpreter of this node."""

    def __init__(
        self,
        manifest: "dict[str, Any]",
        target: str,
        lock: "dict[str, Any]",
        node: "_Node",
        interpreter: "Interpreter",
    ) -> None:
        self.manifest = manifest
        self.target = target
        self.lock = lock
        self.node = node
        self.interpreter = interpreter
        self.ready: Optional[str] = None
        """Folder of the environment that the bundle has for it, to be used in place."""

    def key(self) -> str:
        """Name of the environment's folder: the same for the same lock, kind of node and interpreter."""
        digest = self.manifest["files"].get(self.lock["lock"], {}).get("sha256")
        parts = [str(digest), self.target, *run.node_identity(), self.interpreter.path, *self.manifest["signed-by"]]
        parts += [self.ready] if self.ready else []
        return _sha256(os.fsencode("\n".join(parts)))[:32]


class _Metadata:
    """What decides about the lock: a script's requirements, and its [tool.uv] settings by digest."""

    def __init__(self, dependencies: "Sequence[str]", requires_python: "Optional[str]", settings: str) -> None:
        self.dependencies = {canonical_requirement(text): text for text in dependencies}
        self.requires_python = requires_python
        self.settings = settings

    def is_same_as(self, other: "_Metadata") -> bool:
        """Tell whether nothing changed but the spelling."""
        python = _canonical_specifiers(self.requires_python or "") == _canonical_specifiers(other.requires_python or "")
        return python and self.settings == other.settings and set(self.dependencies) == set(other.dependencies)

    def needs_no_more_than(self, other: "_Metadata") -> bool:
        """Tell whether a lock made for *other* has all this needs; the interpreter is checked separately."""
        return self.settings == other.settings and set(self.dependencies) <= set(other.dependencies)


def _bundled_metadata(entry: "dict[str, Any]") -> _Metadata:
    return _Metadata(entry["dependencies"], entry["requires-python"], entry["settings"])


def _trusted(question: "Callable[[str], Any]", bundle: str) -> "Any":  # noqa: ANN401
    """Ask policy.py; what the site does not trust is no bundle to launch from."""
    try:
        return question(bundle)
    except policy.UntrustedError as error:
        raise LaunchError(error.code, f"{bundle}: {error.message}", error.hint) from None


def read_manifest(bundle: str) -> "dict[str, Any]":
    """Return the manifest, signed as the site's policy asks, and shaped as this file reads it; raises LaunchError."""
    import json

    path = os.path.join(bundle, MANIFEST)
    hint = "the bundle is damaged: carry it over again, or check it with `offline-bundle verify`"
    try:
        content, signers = _trusted(policy.trusted_manifest, bundle)
        manifest = json.loads(content.decode())
    except OSError as error:
        raise LaunchError(5, f"{path} cannot be read: {error.strerror}", hint) from None
    except ValueError as error:
        raise LaunchError(5, f"{path} is not JSON: {error}", hint) from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != MANIFEST_FORMAT:
        raise LaunchError(
            5,
            f"{path} has format {found!r}; this run.py reads format {MANIFEST_FORMAT}",
            "use the run.py of that bundle, or build the bundle with a matching offline-bundle",
        )
    manifest.setdefault("uv", {})
    manifest.setdefault("pythons", {})
    manifest["signed-by"] = [signer.fingerprint for signer in signers]
    problems = list(_shape_problems(manifest, _SHAPE))
    problems += [f"{name!r} leaves the bundle" for name in manifest["files"] if not _is_inside(name)]
    if problems:
        raise LaunchError(5, f"{path} is not shaped like a bundle's manifest:\n  " + "\n  ".join(problems), hint)
    return manifest  # type: ignore[no-any-return]


def _is_inside(name: str) -> bool:
    """Tell whether a path of the manifest stays in the bundle."""
    return not name.startswith("/") and ".." not in name.split("/") and "\\" not in name and ":" not in name


_TEXT_OR_NULL = (str, type(None))
_SHAPE: "dict[str, Any]" = {  # what this launcher reads; "*" stands for every name
    "scripts": {
        "*": {
            "path": str,
            "block": str,
            "dependencies": list,
            "requires-python": _TEXT_OR_NULL,
            "settings": str,
            "locks": {"*": {"lock": str, "libc": _TEXT_OR_NULL, "packages": {"*": {"wheel": str}}}},
        }
    },
    "targets": {"*": {"python": str, "platform": str}},
    "uv": {"*": {"path": str}},
    "pythons": {"*": {"version": str, "path": str}},
    "files": {"*": {"sha256": _TEXT_OR_NULL, "size": (int, type(None))}},
}


def _shape_problems(found: object, shape: "Any", where: str = "") -> "Iterator[str]":  # noqa: ANN401
    """Name every part of the manifest that is missing or of another type than *shape* says."""
    if not isinstance(shape, dict):
        if not isinstance(found, shape):
            yield f"{where} is missing or of a wrong type"
    elif not isinstance(found, dict):
        yield f"{where} is not a table"
    else:
        for name, inner in shape.items():
            for key in found if name == "*" else [name]:
                yield from _shape_problems(found.get(key), inner, f"{where}[{key!r}]")


def _read_metadata(request: _Request, manifest: "dict[str, Any]", interpreters: "_Interpreters") -> _Metadata:
    """Return the script's metadata: from the manifest where a block is the same, else by reading the TOML."""
    digest = block_digest(request.block)
    for entry in manifest["scripts"].values():
        if entry["block"] == digest:
            return _bundled_metadata(entry)
    table = _parse_toml(request, interpreters)
    dependencies = table.get("dependencies", [])
    requires_python = table.get("requires-python")
    if not isinstance(dependencies, list) or not all(isinstance(item, str) for item in dependencies):
        hint = 'write it like dependencies = ["numpy", "matplotlib>=3"]'
        raise LaunchError(2, f"{request.script}: `dependencies` is not a list of texts (PEP 723)", hint)
    if not isinstance(requires_python, (str, type(None))):
        hint = 'write it like requires-python = ">=3.10"'
        raise LaunchError(2, f"{request.script}: `requires-python` is not a text (PEP 723)", hint)
    tool = table.get("tool", {})
    uv = tool.get("uv", {}) if isinstance(tool, dict) else {}
    return _Metadata(dependencies, requires_python, settings_digest(uv))


_TOML_HINT = "the lines between `# /// script` and `# ///` are TOML, each behind `# `"


def _parse_toml(request: _Request, interpreters: "_Interpreters") -> "dict[str, Any]":
    """Read the block with tomllib (Python 3.11), tomli, pip's copy of tomli, or another interpreter."""
    import importlib

    for name in ("tomllib", "tomli", "pip._vendor.tomli"):
        try:
            toml = importlib.import_module(name)
        except ImportError:
            continue
        try:
            return toml.loads(request.block)  # type: ignore[no-any-return]
        except ValueError as error:
            raise LaunchError(2, f"{request.script}: the metadata block is not TOML: {error}", _TOML_HINT) from None
    for minor in range(20, 10, -1):
        for interpreter in interpreters.of_minor((3, minor)):
            return _parse_toml_elsewhere(request, interpreter.path)
    raise LaunchError(
        7,
        f"the metadata block of {request.script} differs from every bundled one, and reading it needs "
        f"Python 3.11 or newer; this is {sys.version.split()[0]}, and there is no newer one",
        "start run.py with Python 3.11 or newer, or keep the block as it is in the bundle's script",
    )


_TOML_TO_JSON = """
import json, sys, tomllib
try:
    table = tomllib.loads(sys.stdin.buffer.read().decode())
except ValueError as error:
    sys.exit(str(error))
print(json.dumps(table, default=lambda moment: moment.isoformat()))
"""


def _parse_toml_elsewhere(request: _Request, python: str) -> "dict[str, Any]":
    import json
    import subprocess

    done = subprocess.run(
        [python, "-I", "-c", _TOML_TO_JSON],
        input=request.block.encode(),
        capture_output=True,
        env=_tool_variables(),
        check=False,
    )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip()
        raise LaunchError(2, f"{request.script}: the metadata block is not TOML: {reason}", _TOML_HINT)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def _bundled_scripts(request: _Request, manifest: "dict[str, Any]", metadata: _Metadata) -> "list[str]":
    """Return the bundled scripts whose lock serves this one, best first, or refuse, naming what they lack.

    Best is the same block, then the same requirements, then more of them; of equals the one of the same name.
    """
    digest = block_digest(request.block)
    ranked = []
    for name, entry in manifest["scripts"].items():
        other = _bundled_metadata(entry)
        same_name = os.path.basename(entry["path"]) == request.name
        surplus = len(set(other.dependencies) - set(metadata.dependencies))
        if entry["block"] == digest:
            ranked.append((0, 0, not same_name, name))
        elif metadata.is_same_as(other):
            ranked.append((1, 0, not same_name, name))
        elif metadata.needs_no_more_than(other):
            ranked.append((2, surplus, not same_name, name))
    if not ranked:
        raise _not_in_bundle(request, manifest, metadata)
    return [name for *_, name in sorted(ranked)]


def _not_in_bundle(request: _Request, manifest: "dict[str, Any]", metadata: _Metadata) -> LaunchError:
    """Compare with the bundled script of the same name, else the most similar one, and say what is new."""
    hint = f"on the connected side: build-offline-bundle {request.name} -o DIR, then carry the bundle over again"
    closest = min(
        manifest["scripts"].values(),
        key=lambda entry: (
            os.path.basename(entry["path"]) != request.name,
            len(set(_bundled_metadata(entry).dependencies) ^ set(metadata.dependencies)),
            entry["path"],
        ),
        default=None,
    )
    if closest is None:
        return LaunchError(7, f"{request.bundle} holds no scripts, so none of what {request.name} needs", hint)
    bundled = _bundled_metadata(closest)
    bundled_name = os.path.basename(closest["path"])
    added = [text for key, text in metadata.dependencies.items() if key not in bundled.dependencies]
    if added:
        return LaunchError(
            7,
            f"{request.name} needs {', '.join(added)}, which the bundle's {bundled_name} did not have",
            hint,
        )
    return LaunchError(
        7, f"the [tool.uv] settings of {request.name} are not those of the bundle's {bundled_name}", hint
    )


# --- cold start: node, target, interpreter ------------------------------------------------------------------


class _Node:
    """This machine: operating system, machine, and C library as a family and a version."""

    def __init__(self) -> None:
        self.system, self.machine, libc = run.node_identity()
        family, _, version = libc.partition(" ")
        if not libc and self.system == "Linux":
            family, version = "musl", _musl_version()
        self.libc_family = family
        self.libc_version = _numbers(version)

    def __str__(self) -> str:
        """Say what it is, for messages."""
        libc = f" with {self.libc_family} {_dotted(self.libc_version)}" if self.libc_family else ""
        return f"{self.system} on {self.machine}{libc}"

    def platform(self) -> str:
        """Name this node in uv's words."""
        if self.libc_family == "glibc":
            return f"{self.machine}-manylinux_{_dotted(self.libc_version).replace('.', '_')}"
        names = {"Linux": "unknown-linux-musl", "Darwin": "apple-darwin", "Windows": "pc-windows-msvc"}
        return f"{self.machine}-{names.get(self.system, self.system)}"

    def misfit(self, platform: str, floor: "Optional[tuple[int, ...]]" = None) -> "Optional[str]":
        """Say why things made for *platform* do not run here, or None.

        *floor*, the libc version that they really need, replaces the one in the platform's name.
        """
        system, machine, family, named_floor = _parse_platform(platform)
        if (system, machine) != (self.system, self.machine):
            return f"made for {system} on {machine}"
        if family != self.libc_family:
            return f"made for {family}"
        needed = named_floor if floor is None else floor
        if needed > self.libc_version:
            return f"needs {family} {_dotted(needed)} or newer"
        return None


def _parse_platform(platform: str) -> "tuple[str, str, str, tuple[int, ...]]":
    """Split uv's name of a platform into system, machine, libc family and libc version.

    `x86_64-manylinux_2_28` → ("Linux", "x86_64", "glibc", (2, 28)). A name this does not know fits no node.
    """
    platform = {
        "linux": "x86_64-unknown-linux-gnu",
        "macos": "aarch64-apple-darwin",
        "windows": "x86_64-pc-windows-msvc",
    }.get(platform, platform)
    machine, _, rest = platform.partition("-")
    kind, _, version = rest.partition("_")
    known = {
        "manylinux": ("Linux", "glibc", _numbers(version.replace("_", "."))),
        "musllinux": ("Linux", "musl", _numbers(version.replace("_", "."))),
        "manylinux2014": ("Linux", "glibc", (2, 17)),
        "unknown-linux-gnu": ("Linux", "glibc", (2, 28)),
        "unknown-linux-musl": ("Linux", "musl", (1, 1)),
        "apple-darwin": ("Darwin", "", ()),
        "pc-windows-msvc": ("Windows", "", ()),
    }
    system, family, floor = known.get(kind, (rest, "", ()))
    return system, machine, family, floor


def _musl_version() -> str:
    """Ask musl's loader, which prints its version on stderr when it is started without arguments."""
    import glob
    import re
    import subprocess

    for loader in glob.glob("/lib/ld-musl-*.so.1"):
        done = subprocess.run([loader], stderr=subprocess.PIPE, check=False)
        match = re.search(rb"Version (\d+(?:\.\d+)*)", done.stderr)
        if match:
            return match[1].decode()
    return ""


def _numbers(version: str) -> "tuple[int, ...]":
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _dotted(version: "Sequence[int]") -> str:
    return ".".join(str(part) for part in version)


def _choose(
    request: _Request,
    manifest: "dict[str, Any]",
    scripts: "list[str]",
    metadata: _Metadata,
    interpreters: "_Interpreters",
) -> _Plan:
    """Return the first script's best lock that fits: highest manylinux platform first, then newest Python."""
    node = interpreters.node
    misfits = []
    for script in scripts:
        entry = manifest["scripts"][script]
        for target in sorted(entry["locks"], key=lambda name: _target_order(manifest, name), reverse=True):
            lock = entry["locks"][target]
            found = _fit(manifest, target, lock, metadata, interpreters)
            if isinstance(found, str):
                misfits.append(f"{target}: {found}")
                continue
            _notice_removed(request, entry, metadata)
            request.say(f"Chosen: {lock['lock']} with {found}", 1)
            plan = _Plan(manifest, target, lock, node, found)
            plan.ready = _ready_environment(request.bundle, lock)
            return plan
    here = "name a fitting interpreter with --python PATH, or " if any(": no CPython" in why for why in misfits) else ""
    raise LaunchError(
        7,
        f"nothing in the bundle for {request.name} fits this node\n"
        f"  this node: {node}\n"
        f"  its interpreters: {interpreters}\n"
        "  the bundle: " + "; ".join(dict.fromkeys(misfits) or ["no lock at all"]),
        f"{here}on the connected side: build-offline-bundle {request.name} -o DIR --python-version X.Y "
        f"--python-platform {node.platform()}",
    )


def _fit(
    manifest: "dict[str, Any]",
    name: str,
    lock: "dict[str, Any]",
    metadata: _Metadata,
    interpreters: "_Interpreters",
) -> "Interpreter | str":
    """Return the interpreter that serves this lock here, or say why none does."""
    target = manifest["targets"].get(name)
    if target is None:
        return f"not among the targets of {MANIFEST}"
    misfit = interpreters.node.misfit(target["platform"], _numbers(lock["libc"] or ""))
    if misfit:
        return misfit
    free_threaded = target["python"].endswith("t")
    minor = _numbers(target["python"].rstrip("t"))[:2]
    for interpreter in interpreters.for_target(manifest, name, minor, free_threaded=free_threaded):
        if python_matches(metadata.requires_python, interpreter.version):
            return interpreter
    required = metadata.requires_python
    return f"no CPython {target['python']}" + (f" that satisfies requires-python {required!r}" if required else "")


def _target_order(manifest: "dict[str, Any]", name: str) -> "tuple[Any, ...]":
    target = manifest["targets"].get(name, {"python": "", "platform": ""})
    return _parse_platform(target["platform"])[3], _numbers(target["python"].rstrip("t")), name


def _notice_removed(request: _Request, entry: "dict[str, Any]", metadata: _Metadata) -> None:
    bundled = _bundled_metadata(entry).dependencies
    removed = [text for key, text in bundled.items() if key not in metadata.dependencies]
    if removed:
        bundled_name = os.path.basename(entry["path"])
        request.say(f"{request.name} does not list {', '.join(removed)}; it runs in the environment of {bundled_name}")


class Interpreter:
    """A CPython of this node, by the real path of the base interpreter, never of a virtual environment.

    One that the bundle brings has the path of its *archive*, and is unpacked to *folder* before it is used.
    """

    def __init__(
        self,
        path: str,
        version: "tuple[int, int, int]",
        *,
        free_threaded: bool,
        archive: "Optional[str]" = None,
        folder: str = "",
    ) -> None:
        self.path = path
        self.version = version
        self.is_free_threaded = free_threaded
        self.archive = archive
        self.folder = folder

    def __str__(self) -> str:
        """Version and path, for messages."""
        return f"Python {_dotted(self.version)}{'t' if self.is_free_threaded else ''} ({self.path})"


class _Interpreters:
    """Finds interpreters, asking each once; one that does not run (an idle pyenv shim) is passed over."""

    def __init__(self, explicit: "Optional[str]", node: _Node, cache: "Optional[str]" = None) -> None:
        self._explicit = explicit
        self._cache = cache
        self.node = node
        self._asked: dict[str, Optional[Interpreter]] = {}

    def for_target(
        self, manifest: "dict[str, Any]", target: str, minor: "tuple[int, ...]", *, free_threaded: bool
    ) -> "Iterator[Interpreter]":
        """Yield the one that the bundle brings for *target*, then this node's own; or only the one asked for."""
        if target in manifest["pythons"] and self._cache and not self._explicit:
            yield _bundled_interpreter(manifest, target, minor, self._cache, free_threaded=free_threaded)
        yield from self.of_minor(minor, free_threaded=free_threaded)

    def of_minor(self, minor: "tuple[int, ...]", *, free_threaded: bool = False) -> "Iterator[Interpreter]":
        """Yield the interpreters of one minor version, preferred ones first."""
        paths = _interpreter_paths(minor, "t" if free_threaded else "")
        for path in [self._explicit] if self._explicit else paths:
            if path not in self._asked:
                self._asked[path] = _ask_interpreter(path, self.node)
            found = self._asked[path]
            if found and found.version[:2] == minor and found.is_free_threaded == free_threaded:
                yield found

    def __str__(self) -> str:
        """List those that were asked, for messages."""
        if self._explicit and not self._asked.get(self._explicit):
            return f"only {self._explicit} was asked for, and it is no CPython for this node"
        return ", ".join(sorted({str(found) for found in self._asked.values() if found})) or "none found"


def _bundled_interpreter(
    manifest: "dict[str, Any]", target: str, minor: "tuple[int, ...]", cache: str, *, free_threaded: bool
) -> Interpreter:
    """Return the interpreter that the bundle brings for *target*; `_unpack_interpreter` puts it there.

    Where run.sh has unpacked the same one to start this program with, it is that.
    """
    import re

    entry = manifest["pythons"][target]
    numbers = _numbers(entry["version"])
    digest = str(manifest["files"].get(entry["path"], {}).get("sha256"))
    if len(numbers) != 3 or numbers[:2] != minor or not re.fullmatch("[0-9a-f]{64}", digest):
        raise LaunchError(5, f"{MANIFEST} does not say what Python {entry['path']} is", _DAMAGED_HINT)
    version = (numbers[0], numbers[1], numbers[2])
    this = os.path.realpath(sys.executable)
    is_free_threaded = "t" in getattr(sys, "abiflags", "")
    if this.startswith(os.path.join(os.path.realpath(cache), "bootstrap", "")) and (
        (sys.version_info[:3], is_free_threaded) == (version, free_threaded)
    ):
        return Interpreter(this, version, free_threaded=free_threaded)
    folder = os.path.join(cache, "python", digest)
    path = _module("interpreter").interpreter_path(folder, minor, free_threaded=free_threaded)
    return Interpreter(path, version, free_threaded=free_threaded, archive=entry["path"], folder=folder)


def _module(name: str) -> "Any":  # noqa: ANN401
    """Import a file of the launcher that only some bundles have."""
    import importlib

    try:
        return importlib.import_module(f"wheelhouse.{name}" if __package__ else name)
    except ImportError:
        here = os.path.dirname(os.path.abspath(__file__))
        raise LaunchError(1, f"{name}.py is not in {here}", "copy it there too, from the bundle") from None


def _interpreter_paths(minor: "tuple[int, ...]", abi: str) -> "Iterator[str]":
    """Yield where a Python of this minor version may be: this one, PATH's, uv's, pyenv's."""
    if sys.version_info[:2] == minor:
        yield sys.executable
    dotted = _dotted(minor)
    for name in (f"python{dotted}{abi}", "python3", "python"):
        path = _which(name)
        if path:
            yield path
    home = os.path.expanduser("~")
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    managed = os.environ.get("UV_PYTHON_INSTALL_DIR") or os.path.join(data, "uv", "python")
    pyenv = os.path.join(os.environ.get("PYENV_ROOT") or os.path.join(home, ".pyenv"), "versions")
    for folder in _newest_first(managed, f"cpython-{dotted}.") + _newest_first(pyenv, f"{dotted}."):
        for inner in (os.path.join("bin", f"python{dotted}{abi}"), "python.exe"):
            if os.path.isfile(os.path.join(folder, inner)):
                yield os.path.join(folder, inner)


def _newest_first(folder: str, prefix: str) -> "list[str]":
    """List the versions of one minor in *folder*, the highest patch number first."""
    import re

    try:
        names = [name for name in os.listdir(folder) if name.startswith(prefix)]
    except OSError:
        return []
    names.sort(key=lambda name: ([int(number) for number in re.findall(r"\d+", name)], name), reverse=True)
    return [os.path.join(folder, name) for name in names]


_SELF_DESCRIPTION = """
import json, os, struct, sys, sysconfig
path = sys.executable
if sys.prefix != sys.base_prefix:
    abi = getattr(sys, "abiflags", "")
    inner = "python.exe" if os.name == "nt" else "bin/python%d.%d%s" % (sys.version_info[:2] + (abi,))
    base = os.path.join(sys.base_prefix, inner)
    path = base if os.path.exists(base) else getattr(sys, "_base_executable", path)
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except Exception:
    libc = ""
print(json.dumps({
    "path": os.path.realpath(path), "version": list(sys.version_info[:3]), "release": sys.version_info[3],
    "implementation": sys.implementation.name,
    "free-threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "libc": libc.split(" ")[0], "bits": struct.calcsize("P") * 8,
}))
"""


def _ask_interpreter(path: str, node: _Node) -> "Optional[Interpreter]":
    """Return what the interpreter at *path* says of itself, or None for one that cannot serve this node."""
    import json
    import subprocess

    try:
        done = subprocess.run(
            [path, "-I", "-c", _SELF_DESCRIPTION],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=_tool_variables(),
            timeout=60,
            check=True,
        )
        said = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    is_native = said["bits"] == 64 and (said["libc"] == "glibc") == (node.libc_family == "glibc")
    if said["implementation"] != "cpython" or said["release"] != "final" or not is_native:
        return None
    major, minor, micro = said["version"]
    return Interpreter(said["path"], (major, minor, micro), free_threaded=said["free-threaded"])


# --- cold start: making the environment ---------------------------------------------------------------------


def _prepare_once(plan: _Plan, request: _Request, cache: str) -> Environment:
    """Return the environment of *plan*; of many jobs that start at once one makes it, and the others wait."""
    import time

    home = os.path.join(cache, "environments", plan.key())
    os.makedirs(os.path.dirname(home), mode=0o700, exist_ok=True)
    speaks_at = time.monotonic() + (0 if request.verbosity > 0 else 5)
    is_new = False
    while True:
        environment = _use(home, request.bundle)
        if environment is not None:
            if is_new:
                _prune(cache, request)
            return environment
        maker = FileLock(home + ".lock")
        if maker.acquire(block=False):
            try:
                if not run.is_complete(home):
                    _make(home, plan, request, cache, maker)
                    is_new = True
            finally:
                maker.release()
            continue
        if time.monotonic() >= speaks_at:
            request.say(f"Waiting for another job to finish preparing {home} ...")
            speaks_at = float("inf")
        time.sleep(0.1)


def _make(home: str, plan: _Plan, request: _Request, cache: str, lock: FileLock) -> None:
    """Make the environment at *home*, whose *lock* is held; after a failure nothing of it is left."""
    import json
    import shutil

    shutil.rmtree(home, ignore_errors=True)  # what an attempt that was killed has left
    try:
        _unpack_interpreter(plan, request)
        if plan.ready:
            request.say(f"Linking to {plan.ready}", 1)
            os.mkdir(home, 0o700)
            _link_environment(os.path.join(home, "env"), plan.ready, plan, request.bundle)
        else:
            _install(home, plan, request, cache, lock)
        facts = {"interpreter": plan.interpreter.path, "lock": plan.lock["lock"], "size": _size(home)}
        _write_atomically(run.marker(home), json.dumps(facts, indent=1).encode())
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _install(home: str, plan: _Plan, request: _Request, cache: str, lock: FileLock) -> None:
    """Install the lock's wheels into an environment of this node."""
    _check_wheels(plan, request.bundle)
    uv = _find_uv(plan, request.bundle, cache)
    count = len(plan.lock["packages"])
    content = f"{count} package{'' if count == 1 else 's'}, Python {_dotted(plan.interpreter.version)}"
    request.say(f"Preparing the environment of {request.name} ({content}) once for this node ...")
    os.mkdir(home, 0o700)
    tool = _Tool(home, cache, lock, request)
    if uv:
        _install_with_uv(tool, uv, plan, request.bundle)
    else:
        request.say("There is no uv in the bundle for this node, nor on PATH: pip does its work.", 1)
        _install_with_pip(tool, plan, request.bundle)


def _ready_environment(bundle: str, lock: "dict[str, Any]") -> "Optional[str]":
    """Return the folder of the environment that the bundle has for a lock; Windows cannot link to one."""
    inside = lock.get("environment")
    if not isinstance(inside, str) or not _is_inside(inside) or sys.platform == "win32":
        return None
    return os.path.join(bundle, inside)


def _link_environment(place: str, ready: str, plan: _Plan, bundle: str) -> None:
    """Make an environment whose packages stay in the bundle: only what a node decides is here, and what is in bin/.

    A site with a policy on signatures wants to know what it runs: there each file is held against the manifest now.
    """
    inside = plan.lock["environment"] + "/"
    files = [name for name in plan.manifest["files"] if name.startswith(inside)]
    for name in files if policy.may_be_in_force() else ():
        _read_verified(bundle, plan.manifest, name)
    python = "python" + _dotted(plan.interpreter.version[:2])
    packages = os.path.join("lib", python, "site-packages")
    os.makedirs(os.path.join(place, os.path.dirname(packages)), mode=0o700)
    os.mkdir(os.path.join(place, "bin"), 0o700)
    for link in ("python", "python3", python):
        os.symlink(plan.interpreter.path, os.path.join(place, "bin", link))
    home = os.path.dirname(plan.interpreter.path)
    lines = [f"home = {home}", "include-system-site-packages = false", f"version = {_dotted(plan.interpreter.version)}"]
    _write_atomically(os.path.join(place, "pyvenv.cfg"), os.fsencode("\n".join(lines) + "\n"))
    tops = {name[len(inside) :].partition("/")[0] for name in files} - {"bin", "lib", "pyvenv.cfg"}
    for link in [*sorted(tops), packages]:
        if os.path.isdir(os.path.join(ready, link)):
            os.symlink(os.path.join(ready, link), os.path.join(place, link))
        elif any(name.startswith(inside + link) for name in files):
            raise LaunchError(5, f"{os.path.join(ready, link)} is missing", _DAMAGED_HINT)
    for name in files:
        if name.startswith(inside + "bin/"):
            content = _read_verified(bundle, plan.manifest, name)
            _write_atomically(os.path.join(place, "bin", os.path.basename(name)), content, mode=0o700)


def _unpack_interpreter(plan: _Plan, request: _Request) -> None:
    """Verify the bundle's interpreter and unpack it, once for this node, if it is what *plan* wants."""
    import shutil

    chosen = plan.interpreter
    if chosen.archive is None:
        return
    module = _module("interpreter")
    os.makedirs(os.path.dirname(chosen.folder), mode=0o700, exist_ok=True)
    marker = run.marker(chosen.folder)
    with FileLock(chosen.folder + ".lock"):
        if os.path.exists(marker):
            os.utime(marker)
            return
        content = _read_verified(request.bundle, plan.manifest, chosen.archive)
        request.say(f"Unpacking Python {_dotted(chosen.version)} once for this node ...")
        shutil.rmtree(chosen.folder, ignore_errors=True)  # what an attempt that was killed has left
        os.mkdir(chosen.folder, 0o700)
        try:
            module.unpack(content, chosen.folder)
            _check_unpacked(chosen, plan.node)
            _compile_library(chosen.path)
            _write_atomically(marker, b"{}")
        except module.HostileArchiveError as error:
            raise LaunchError(5, f"{chosen.archive} of the bundle is not used: {error}", _DAMAGED_HINT) from None
        finally:
            if not os.path.exists(marker):
                shutil.rmtree(chosen.folder, ignore_errors=True)


def _check_unpacked(chosen: Interpreter, node: _Node) -> None:
    if not os.path.isfile(chosen.path):
        raise LaunchError(5, f"{chosen.archive} holds no {os.path.basename(chosen.path)}", _DAMAGED_HINT)
    found = _ask_interpreter(chosen.path, node)
    if found is None:
        raise LaunchError(
            7,
            f"the bundle's Python {_dotted(chosen.version)} ({chosen.archive}) does not run on this node ({node})",
            "name another one with --python PATH; where the cache is mounted noexec, set OFFLINE_BUNDLE_CACHE",
        )
    if found.version != chosen.version:
        raise LaunchError(
            5, f"{chosen.archive} is Python {_dotted(found.version)}, not as {MANIFEST} says", _DAMAGED_HINT
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


def _explained(error: OSError, cache: str) -> Exception:
    """Turn what a file system refuses into advice, where there is any."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _no_space(cache)
    if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):  # such as Lustre mounted without flock
        return LaunchError(
            1,
            f"files in the cache {cache} cannot be locked: {error.strerror}",
            "set OFFLINE_BUNDLE_CACHE to a folder on a local disk of this node",
        )
    return error


def _no_space(cache: str) -> LaunchError:
    return LaunchError(
        1,
        f"no space left in the cache {cache}",
        "remove what is not needed there, or set OFFLINE_BUNDLE_CACHE to a folder with more room",
    )


def _check_wheels(plan: _Plan, bundle: str) -> None:
    """Refuse, all at once, wheels that are missing or cut short; the installer checks their hashes."""
    problems = []
    for package, choice in sorted(plan.lock["packages"].items()):
        wheel = choice["wheel"]
        listed = plan.manifest["files"].get(wheel)
        path = os.path.join(bundle, wheel)
        if listed is None:
            problems.append(f"{wheel} ({package}) is not in {MANIFEST}")
        elif not os.path.isfile(path):
            problems.append(f"{wheel} is missing")
        elif os.path.getsize(path) != listed["size"]:
            problems.append(f"{wheel} has {os.path.getsize(path)} bytes instead of {listed['size']}")
    if problems:
        raise LaunchError(5, f"the bundle {bundle} is damaged:\n  " + "\n  ".join(problems), _DAMAGED_HINT)


_DAMAGED_HINT = "carry the bundle over again; `offline-bundle verify DIR` lists all that does not match"


def _read_verified(bundle: str, manifest: "dict[str, Any]", name: str) -> bytes:
    """Return the content of a bundled file that is exactly what the manifest says, or raise LaunchError 5."""
    listed = manifest["files"].get(name)
    if listed is None:
        raise LaunchError(5, f"{name} is not in the files of {os.path.join(bundle, MANIFEST)}", _DAMAGED_HINT)
    try:
        with open(os.path.join(bundle, name), "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise LaunchError(5, f"{os.path.join(bundle, name)} is missing", _DAMAGED_HINT) from None
    if len(content) != listed["size"] or _sha256(content) != listed["sha256"]:
        raise LaunchError(5, f"{os.path.join(bundle, name)} does not match its digest in {MANIFEST}", _DAMAGED_HINT)
    return content


def _find_uv(plan: _Plan, bundle: str, cache: str) -> "Optional[str]":
    """Return uv to run: OFFLINE_BUNDLE_UV, the bundle's (its verified copy in the cache), PATH's, or None."""
    chosen = os.environ.get("OFFLINE_BUNDLE_UV")
    if chosen:
        return _explicit_program(chosen, "uv")
    fitting = [platform for platform in plan.manifest.get("uv", {}) if _uv_fits(platform, plan.node)]
    if not fitting:
        return _which("uv")
    name = plan.manifest["uv"][max(fitting, key=lambda platform: _parse_platform(platform)[2:])]["path"]
    listed = plan.manifest["files"].get(name, {})
    copy = os.path.join(cache, "uv-bin", str(listed.get("sha256")), os.path.basename(name))
    if not os.path.isfile(copy):
        content = _read_verified(bundle, plan.manifest, name)
        os.makedirs(os.path.dirname(copy), mode=0o700, exist_ok=True)
        _write_atomically(copy, content, mode=0o700)
    return copy


def _uv_fits(platform: str, node: _Node) -> bool:
    """Tell whether a uv runs here. Its musl build is linked statically, and so it runs on every Linux."""
    system, machine, family, _ = _parse_platform(platform)
    is_static = family == "musl" and (system, machine) == (node.system, node.machine)
    return is_static or node.misfit(platform) is None


def _install_with_uv(tool: "_Tool", uv: str, plan: _Plan, bundle: str) -> None:
    """`uv venv`, then `uv pip sync` of the PEP 751 lock, whose wheels are paths relative to it."""
    _read_verified(bundle, plan.manifest, plan.lock["lock"])
    offline = ["--no-config", "--offline", "--no-progress"]
    tool.run([uv, "venv", *offline, "--no-project", "--python", plan.interpreter.path, tool.environment])
    lock = os.path.join(bundle, plan.lock["lock"])
    install = "--no-index --require-hashes --no-build --compile-bytecode --allow-empty-requirements".split()  # noqa: SIM905
    with FileLock(tool.uv_cache + ".lock", shared=True) as in_use:
        tool.run([uv, "pip", "sync", *offline, *install, "--python", tool.python, lock], in_use)


def _install_with_pip(tool: "_Tool", plan: _Plan, bundle: str) -> None:
    """`python -m venv`, then pip with the hash-pinned requirements that say the same as the lock."""
    import subprocess

    python = plan.interpreter.path
    can = subprocess.run([python, "-I", "-c", "import ensurepip, venv"], capture_output=True, check=False)
    if can.returncode:
        raise LaunchError(
            7,
            f"the bundle has no uv for this node ({plan.node}), there is none on PATH, and without it "
            f"{python} cannot make environments: it has no ensurepip",
            "name a uv with OFFLINE_BUNDLE_UV, install the venv package of this Python, or bundle uv",
        )
    requirements = plan.lock.get("requirements")
    if not isinstance(requirements, str):
        raise LaunchError(
            7,
            "the bundle has no requirements file for pip, and there is no uv for this node",
            "name a uv with OFFLINE_BUNDLE_UV, or bundle uv for this platform",
        )
    _read_verified(bundle, plan.manifest, requirements)
    tool.run([python, "-I", "-m", "venv", tool.environment])
    pip = [tool.python, *"-I -m pip --isolated --disable-pip-version-check --no-input".split()]  # noqa: SIM905
    # The build has looked at Requires-Python as uv does, which does not heed its upper ends.
    install = "install --no-index --no-deps --no-cache-dir --only-binary :all: --require-hashes".split()  # noqa: SIM905
    install.append("--ignore-requires-python")
    where = ["--find-links", os.path.join(bundle, "wheels"), "-r", os.path.join(bundle, requirements)]
    tool.run([*pip, *install, *where])


class _Tool:
    """Runs uv and pip away from the user's settings and folder."""

    def __init__(self, home: str, cache: str, lock: FileLock, request: _Request) -> None:
        self.environment = os.path.join(home, "env")
        self.python = run.environment_python(home)
        self.uv_cache = os.path.join(cache, "uv")
        self._home = home
        self._cache = cache
        self._lock = lock
        self._request = request

    def run(self, command: "list[str]", *locks: FileLock) -> None:
        """Run *command* or raise LaunchError with what it said.

        It inherits the locks: should this process be killed, they last until the orphan has ended too.
        """
        import subprocess

        held = [lock.descriptor for lock in (self._lock, *locks) if lock.descriptor is not None]
        self._request.say("+ " + " ".join(command), 1)
        try:
            done = subprocess.run(
                command,
                cwd=self._home,
                env=_tool_variables(self.uv_cache),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=held if sys.platform != "win32" else (),
                check=False,
            )
        except PermissionError:
            raise LaunchError(
                1,
                f"{command[0]} cannot be run",
                "where its file system is mounted noexec, set OFFLINE_BUNDLE_CACHE to another one",
            ) from None
        said = done.stdout.decode(errors="replace").strip()
        if done.returncode:
            raise self._failure(command, done.returncode, said)
        if said:
            self._request.say(said, 1)

    def _failure(self, command: "list[str]", code: int, said: str) -> LaunchError:
        if "Hash mismatch" in said or "DO NOT MATCH THE HASHES" in said:
            return LaunchError(5, f"a wheel of the bundle does not match its hash in the lock:\n{said}", _DAMAGED_HINT)
        if "No space left on device" in said or "quota exceeded" in said.lower():
            return _no_space(self._cache)
        name = os.path.basename(command[0])
        message = f"{name} could not prepare the environment (exit code {code}):\n{said}"
        return LaunchError(1, message, "what it says is above; -v shows the commands")


def _tool_variables(uv_cache: "Optional[str]" = None) -> "dict[str, str]":
    """Environment variables without those that would send Python, uv or pip elsewhere."""
    dropped = (*_PYTHON_VARIABLES, "CONDA_PREFIX", "PYTHONSTARTUP", "PYTHONUSERBASE", "PYTHONPYCACHEPREFIX")
    variables = {
        name: text
        for name, text in os.environ.items()
        if name not in dropped and not name.upper().startswith(("UV_", "PIP_"))
    }
    if uv_cache:
        variables.update(UV_CACHE_DIR=uv_cache, UV_OFFLINE="1", UV_NO_PROGRESS="1", UV_PYTHON_DOWNLOADS="never")
    return variables


# --- pruning ------------------------------------------------------------------------------------------------


def _prune(cache: str, request: _Request) -> None:
    """Remove environments that were not used for UNUSED_DAYS, then the longest unused beyond the size limit.

    One that a job holds stays, and so does the one just made. With any of them go the notes and uv's cache,
    which nobody needs to run: a later start notes, and a later installation unpacks, what it needs once more.
    """
    import time

    oldest = time.time() - UNUSED_DAYS * 24 * 3600
    limit = _cache_limit()
    total = 0
    has_removed = False
    for used, size, home in sorted(_environments(os.path.join(cache, "environments")), reverse=True):
        total += size
        if (total > limit or used < oldest) and _remove_unlocked(home, run.marker(home)):
            request.say(f"Removed {home}, last used {time.strftime('%Y-%m-%d', time.localtime(used))}", 1)
            total -= size
            has_removed = True
    _prune_interpreters(cache, oldest)
    if has_removed:
        _remove_unlocked(os.path.join(cache, "launches"))
        _remove_unlocked(os.path.join(cache, "uv"))


def _prune_interpreters(cache: str, oldest: float) -> None:
    """Remove unpacked interpreters that no environment uses, and that nobody asked for since *oldest*."""
    import json

    folder = os.path.join(cache, "python")
    if not os.path.isdir(folder):
        return
    used = set()
    for _, _, home in _environments(os.path.join(cache, "environments")):
        try:
            with open(run.marker(home), "rb") as file:
                used.add(json.loads(file.read().decode())["interpreter"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    for name in os.listdir(folder):
        home = os.path.join(folder, name)
        marker = run.marker(home)
        is_used = any(path.startswith(os.path.join(home, "")) for path in used)
        if not name.endswith(".lock") and not is_used and os.path.exists(marker) and os.path.getmtime(marker) < oldest:
            _remove_unlocked(home, marker)


def _cache_limit() -> int:
    """Bytes from OFFLINE_BUNDLE_CACHE_MAX: a number, with K, M, G or T for powers of 1024."""
    import re

    text = os.environ.get("OFFLINE_BUNDLE_CACHE_MAX") or DEFAULT_CACHE_LIMIT
    match = re.fullmatch(r"(\d+)([KMGT]?)(?:I?B)?", text.strip().upper())
    if not match:
        hint = "write a number with K, M, G or T, or unset it"
        raise LaunchError(2, f"OFFLINE_BUNDLE_CACHE_MAX={text} is not a size such as {DEFAULT_CACHE_LIMIT}", hint)
    return int(match[1]) << 10 * " KMGT".index(match[2] or " ")


def _environments(folder: str) -> "Iterator[tuple[float, int, str]]":
    """Yield time of last use, size in bytes and path of every environment; unfinished ones have no size."""
    import json

    for name in os.listdir(folder):
        home = os.path.join(folder, name)
        if name.endswith(".lock"):
            continue
        try:
            with open(run.marker(home), "rb") as file:
                yield os.fstat(file.fileno()).st_mtime, int(json.loads(file.read().decode())["size"]), home
        except (OSError, ValueError, KeyError, TypeError):
            if os.path.isdir(home):
                yield os.path.getmtime(home), 0, home


def _remove_unlocked(folder: str, marker: "Optional[str]" = None) -> bool:
    """Remove *folder* unless *folder*.lock is held; *marker* first: no half of it passes for whole."""
    import shutil

    lock = FileLock(folder + ".lock")
    try:
        if not lock.acquire(block=False):
            return False
        if marker and os.path.exists(marker):
            os.unlink(marker)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return False
    finally:
        lock.release()
    return True


# --- files --------------------------------------------------------------------------------------------------


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def _write_atomically(path: str, content: bytes, mode: int = 0o600) -> None:
    """Write beside *path* and rename: a reader sees all of it or nothing."""
    partial = f"{path}.{os.urandom(6).hex()}.partial"  # nodes that share a home share process numbers
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    except BaseException:
        if os.path.exists(partial):
            os.unlink(partial)
        raise


def _size(folder: str) -> int:
    """Bytes on disk below *folder*."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            found = os.lstat(os.path.join(parent, name))
            total += getattr(found, "st_blocks", 0) * 512 or found.st_size
    return total
