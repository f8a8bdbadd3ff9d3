"""Install the wheels of a lock with uv or pip."""

import os
import sys

from ..errors import BundleError, IntegrityError, NotInBundleError
from ..files import write_atomic
from ..locks import FileLock
from ..platforms import parse_platform
from ..processes import explicit_program, find_program, tool_variables
from .os_errors import no_space
from .trusted_manifest import DAMAGED_HINT, read_verified
from .warm_start import environment_python

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from ..platforms import Node
    from .lock_selection import Plan
    from .request import Request


def find_uv(plan: "Plan", bundle: str, cache: str) -> "Optional[str]":
    """Return uv to run: OFFLINE_BUNDLE_UV, the bundle's (its verified copy in the cache), PATH's, or None."""
    chosen = os.environ.get("OFFLINE_BUNDLE_UV")
    if chosen:
        return explicit_program(chosen, "uv")
    fitting = [
        platform for platform in plan.manifest.get("uv", {}) if _uv_fits(platform, plan.node)
    ]
    if not fitting:
        return find_program("uv")
    name = plan.manifest["uv"][max(fitting, key=lambda platform: parse_platform(platform)[2:])][
        "path"
    ]
    listed = plan.manifest["files"].get(name, {})
    copy = os.path.join(cache, "uv-bin", str(listed.get("sha256")), os.path.basename(name))
    if not os.path.isfile(copy):
        content = read_verified(bundle, plan.manifest, name)
        os.makedirs(os.path.dirname(copy), mode=0o700, exist_ok=True)
        write_atomic(copy, content, mode=0o700)
    return copy


def _uv_fits(platform: str, node: "Node") -> bool:
    """Tell whether a uv runs here. Its musl build is linked statically, and so it runs on every Linux."""
    system, machine, family, _ = parse_platform(platform)
    is_static = family == "musl" and (system, machine) == (node.system, node.machine)
    return is_static or node.misfit(platform) is None


def install_with_uv(tool: "Tool", uv: str, plan: "Plan", bundle: str) -> None:
    """`uv venv`, then `uv pip sync` of the PEP 751 lock, whose wheels are paths relative to it."""
    read_verified(bundle, plan.manifest, plan.lock["lock"])
    offline = ["--no-config", "--offline", "--no-progress"]
    tool.run(
        [uv, "venv", *offline, "--no-project", "--python", plan.interpreter.path, tool.environment]
    )
    lock = os.path.join(bundle, plan.lock["lock"])
    install = "--no-index --require-hashes --no-build --compile-bytecode --allow-empty-requirements".split()  # noqa: SIM905
    with FileLock(tool.uv_cache + ".lock", shared=True) as in_use:
        tool.run([uv, "pip", "sync", *offline, *install, "--python", tool.python, lock], in_use)


def install_with_pip(tool: "Tool", plan: "Plan", bundle: str) -> None:
    """`python -m venv`, then pip with the hash-pinned requirements that say the same as the lock."""
    import subprocess

    python = plan.interpreter.path
    can = subprocess.run(
        [python, "-I", "-c", "import ensurepip, venv"], capture_output=True, check=False
    )
    if can.returncode:
        raise NotInBundleError(
            f"the bundle has no uv for this node ({plan.node}), there is none on PATH, and without it "
            f"{python} cannot make environments: it has no ensurepip",
            hint="name a uv with OFFLINE_BUNDLE_UV, install the venv package of this Python, or bundle uv",
        )
    requirements = plan.lock.get("requirements")
    if not isinstance(requirements, str):
        raise NotInBundleError(
            "the bundle has no requirements file for pip, and there is no uv for this node",
            hint="name a uv with OFFLINE_BUNDLE_UV, or bundle uv for this platform",
        )
    read_verified(bundle, plan.manifest, requirements)
    tool.run([python, "-I", "-m", "venv", tool.environment])
    pip = [tool.python, *"-I -m pip --isolated --disable-pip-version-check --no-input".split()]  # noqa: SIM905
    # The build has looked at Requires-Python as uv does, which does not heed its upper ends.
    install = (
        "install --no-index --no-deps --no-cache-dir --only-binary :all: --require-hashes".split()
    )  # noqa: SIM905
    install.append("--ignore-requires-python")
    where = [
        "--find-links",
        os.path.join(bundle, "wheels"),
        "-r",
        os.path.join(bundle, requirements),
    ]
    tool.run([*pip, *install, *where])


class Tool:
    """Runs uv and pip away from the user's settings and folder."""

    def __init__(self, home: str, cache: str, lock: FileLock, request: "Request") -> None:
        self.environment = os.path.join(home, "env")
        self.python = environment_python(home)
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
                env=tool_variables(self.uv_cache),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=held if sys.platform != "win32" else (),
                check=False,
            )
        except PermissionError:
            raise BundleError(
                f"{command[0]} cannot be run",
                hint="where its file system is mounted noexec, set OFFLINE_BUNDLE_CACHE to another one",
            ) from None
        said = done.stdout.decode(errors="replace").strip()
        if done.returncode:
            raise self._failure(command, done.returncode, said)
        if said:
            self._request.say(said, 1)

    def _failure(self, command: "list[str]", code: int, said: str) -> BundleError:
        if "Hash mismatch" in said or "DO NOT MATCH THE HASHES" in said:
            return IntegrityError(
                f"a wheel of the bundle does not match its hash in the lock:\n{said}",
                hint=DAMAGED_HINT,
            )
        if "No space left on device" in said or "quota exceeded" in said.lower():
            return no_space(self._cache)
        name = os.path.basename(command[0])
        message = f"{name} could not prepare the environment (exit code {code}):\n{said}"
        return BundleError(message, hint="what it says is above; -v shows the commands")
