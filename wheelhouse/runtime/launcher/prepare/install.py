"""Install the wheels of a lock with uv or pip."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

from ...disk.files import has_digest, write_atomic
from ...disk.locks import FileLock
from ...errors import BundleError, IntegrityError, NotInBundleError
from ...names import ENVIRONMENT_MARK
from ...processes import explicit_program, find_program, tool_variables
from ...python.platforms import parse_platform
from ..os_errors import no_space
from ..trusted_bundle import DAMAGED_HINT
from ..warm_start import environment_python
from .cache_cleanup import remove_unlocked
from .contents import truncated_files
from .linked import write_interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Optional

    from ...python.platforms import Node
    from ..request import Request
    from .plan import Plan

_UV_OPTIONS = ("--no-config", "--offline", "--no-progress")
_UV_SYNC_OPTIONS = (
    "--no-index",
    "--require-hashes",
    "--no-build",
    "--allow-empty-requirements",
)
_PIP_OPTIONS = ("--isolated", "--disable-pip-version-check", "--no-input")
_PIP_INSTALL_OPTIONS = (
    "--no-index",
    "--no-deps",
    "--no-compile",
    "--no-cache-dir",
    "--only-binary",
    ":all:",
    "--require-hashes",
    # The build has checked Requires-Python as uv does, which ignores upper bounds.
    "--ignore-requires-python",
)


def find_uv(plan: "Plan", cache: str) -> "Optional[str]":
    """Return uv: OFFLINE_BUNDLE_UV, a verified copy of the bundle's, PATH's, or None."""
    explicit = os.environ.get("OFFLINE_BUNDLE_UV")
    if explicit:
        return explicit_program(explicit, "uv")
    manifest = plan.bundle.manifest
    fitting = [platform for platform in manifest.uv if _uv_fits(platform, plan.node)]
    if not fitting:
        return find_program("uv")
    newest = max(fitting, key=lambda platform: parse_platform(platform)[2:])
    name = manifest.uv[newest].path
    digest = str(manifest.files[name].sha256)
    copy = os.path.join(cache, "uv-bin", digest, os.path.basename(name))
    if not has_digest(copy, digest):
        os.makedirs(os.path.dirname(copy), mode=0o700, exist_ok=True)
        partial = f"{copy}.{os.urandom(6).hex()}.partial"
        plan.bundle.copy(name, partial, mode=0o700)
        os.replace(partial, copy)
    return copy


def _uv_fits(platform: str, node: "Node") -> bool:
    """Return whether a uv runs here. The musl build is static: it runs on every Linux."""
    parsed = parse_platform(platform)
    is_same_machine = (parsed.system, parsed.machine) == (node.system, node.machine)
    return (is_same_machine and parsed.libc_family == "musl") or node.misfit(platform) is None


def install_with_uv(tool: "Tool", uv: str, plan: "Plan") -> None:
    """Run `uv pip sync` of the PEP 751 lock.

    uv keeps unpacked wheels in its cache, and does not notice if these are damaged later. Then the
    environment is made again without that cache.
    """
    lock = tool.write("pylock.toml", _with_absolute_paths(plan))
    sync = [uv, "pip", "sync", *_UV_OPTIONS, *_UV_SYNC_OPTIONS, "--python", tool.python, lock]
    _make_environment(tool, uv, plan)
    if _sync_with_cache(tool, sync, plan):
        return
    tool.log("uv's cache is damaged: installing without it")
    shutil.rmtree(tool.environment)
    remove_unlocked(tool.uv_cache)
    _make_environment(tool, uv, plan)
    with tool.temporary_folder("uv") as folder:
        tool.run([*sync, "--cache-dir", folder])


def _make_environment(tool: "Tool", uv: str, plan: "Plan") -> None:
    if sys.platform == "win32":
        python = plan.interpreter.path
        tool.make([uv, "venv", *_UV_OPTIONS, "--no-project", "--python", python, tool.environment])
    else:  # `uv venv` would start the interpreter once more
        write_interpreter(tool.environment, plan)


def _sync_with_cache(tool: "Tool", sync: "list[str]", plan: "Plan") -> bool:
    """Install with uv's cache of this node; return whether what is installed is complete."""
    is_reused = os.path.isdir(tool.uv_cache)
    try:
        with FileLock(tool.uv_cache + ".lock", shared=True) as in_use:
            tool.run(sync, in_use)
    except IntegrityError:
        raise
    except BundleError:
        if not is_reused:
            raise
        return False
    return not is_reused or not truncated_files(plan, _site_packages(tool, plan))


def _site_packages(tool: "Tool", plan: "Plan") -> str:
    if sys.platform == "win32":
        return os.path.join(tool.environment, "Lib", "site-packages")
    return os.path.join(tool.environment, "lib", plan.interpreter.name, "site-packages")


def _with_absolute_paths(plan: "Plan") -> bytes:
    """Return the verified lock with the absolute paths of its wheels.

    uv gets this copy: it would read the file in the bundle again, which may be another one by then.
    It checks the hash of a wheel while it unpacks it, in one read.
    """
    wheels = os.path.join(plan.bundle.folder, "wheels", "").replace(os.sep, "/")
    quoted = json.dumps(wheels, ensure_ascii=False)[:-1]  # of JSON's escapes, TOML has those here
    return plan.bundle.read(plan.lock.lock).replace(b'"../../wheels/', os.fsencode(quoted))


def install_with_pip(tool: "Tool", plan: "Plan") -> None:
    """Run `python -m venv`, then pip with the hash-pinned requirements, which equal the lock."""
    python = plan.interpreter.path
    probe = [python, "-I", "-c", "import ensurepip, venv"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        raise NotInBundleError(
            f"no uv for this node ({plan.node}) is in the bundle or on PATH, and {python} cannot "
            "make environments without it: it has no ensurepip",
            hint="name a uv with OFFLINE_BUNDLE_UV, install the venv package of this Python, "
            "or include uv in the bundle",
        )
    requirements = tool.write("requirements.txt", plan.bundle.read(plan.lock.requirements))
    tool.make([python, "-I", "-m", "venv", tool.environment])
    pip = [tool.python, "-I", "-m", "pip", *_PIP_OPTIONS, "install", *_PIP_INSTALL_OPTIONS]
    with tool.temporary_folder("wheels") as wheels:
        # pip reads a wheel twice, to check its hash and to unpack it: it gets copies
        for package in plan.lock.packages.values():
            plan.bundle.copy(package.wheel, os.path.join(wheels, os.path.basename(package.wheel)))
        tool.run([*pip, "--find-links", wheels, "-r", requirements])


class Tool:
    """Runs uv and pip without the user's settings, in the environment's folder."""

    def __init__(self, home: str, cache: str, lock: FileLock, request: "Request") -> None:
        self.environment = os.path.join(home, "env")
        self.python = environment_python(home)
        self.uv_cache = os.path.join(cache, "uv")
        self._home = home
        self.cache = cache
        self._lock = lock
        self._request = request

    def log(self, message: str) -> None:
        """Print a message on stderr, unless the user wants errors only."""
        self._request.log(message)

    def write(self, name: str, content: bytes) -> str:
        """Write a file beside the environment; return its path."""
        path = os.path.join(self._home, name)
        write_atomic(path, content)
        return path

    @contextmanager
    def temporary_folder(self, name: str) -> "Iterator[str]":
        """Make a folder beside the environment; remove it at the end."""
        folder = os.path.join(self._home, name)
        os.mkdir(folder, 0o700)
        yield folder
        shutil.rmtree(folder)

    def make(self, command: "list[str]") -> None:
        """Run *command*, which makes the environment.

        Without this check, a broken tool could make uv install into the base interpreter.
        """
        self.run(command)
        mark = os.path.join(self.environment, ENVIRONMENT_MARK)
        if not os.path.isfile(mark) or not os.path.exists(self.python):
            message = f"{os.path.basename(command[0])} made no environment, but reported success"
            raise BundleError(message, hint="run with -v to see the commands")

    def run(self, command: "list[str]", *locks: FileLock) -> None:
        """Run *command*; raise an error with its output if it fails.

        It inherits the locks: if this process is killed, they last until the orphan ends.
        """
        held = [lock.descriptor for lock in (self._lock, *locks) if lock.descriptor is not None]
        self._request.log("+ " + " ".join(command), 1)
        try:
            result = subprocess.run(
                command,
                cwd=self._home,
                env=tool_variables(self.uv_cache),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=held if sys.platform != "win32" else (),
                check=False,
            )
        except (FileNotFoundError, PermissionError) as error:
            raise BundleError(
                f"{command[0]} cannot be run: {error.strerror}",
                hint="where its file system is mounted noexec, set OFFLINE_BUNDLE_CACHE "
                "to a folder on another one",
            ) from None
        output = result.stdout.decode(errors="replace").strip()
        if result.returncode:
            raise self._failure(command, result.returncode, output)
        if output:
            self._request.log(output, 1)

    def _failure(self, command: "list[str]", code: int, output: str) -> BundleError:
        if "Hash mismatch" in output or "DO NOT MATCH THE HASHES" in output:
            return IntegrityError(
                f"a wheel of the bundle does not match its hash in the lock:\n{output}",
                hint=DAMAGED_HINT,
            )
        if "No space left on device" in output or "quota exceeded" in output.lower():
            return no_space(self.cache)
        name = os.path.basename(command[0])
        message = f"{name} could not prepare the environment (exit code {code}):\n{output}"
        return BundleError(message, hint="run with -v to see the commands")
