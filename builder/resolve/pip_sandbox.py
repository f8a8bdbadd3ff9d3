"""A temporary folder in which an interpreter of the target runs pip-compile and pip."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.targets import Target, host_platform
from offline_bundle.wheelhouse.runtime.errors import InputError, ResolveError
from offline_bundle.wheelhouse.runtime.processes import absolute_path, run_captured
from offline_bundle.wheelhouse.runtime.python.interpreters import Interpreter, Interpreters
from offline_bundle.wheelhouse.runtime.python.platforms import Node, dotted_version
from offline_bundle.wheelhouse.runtime.python.requirements import python_matches

USE_UV = "leave out `--resolver pip-tools`: uv can do this"
# Variables for another interpreter, platform or output than the one requested here.
_DROPPED = {
    "PIP_ABI",
    "PIP_DRY_RUN",
    "PIP_IMPLEMENTATION",
    "PIP_LOG",
    "PIP_PLATFORM",
    "PIP_PYTHON",
    "PIP_PYTHON_VERSION",
    "PIP_QUIET",
    "PIP_REPORT",
    "PIP_TARGET",
    "PIP_USER",
    "PIP_VERBOSE",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
}


@dataclass(frozen=True)
class PipSandbox:
    """A folder, and an interpreter of the target's Python that runs pip-compile and pip in it."""

    folder: Path
    interpreter: str
    environment: Mapping[str, str]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m COMMAND`."""
        return run_captured([self.interpreter, "-m", *command], self.folder, self.environment)


@contextmanager
def pip_sandbox(script: Script, target: Target) -> Iterator[PipSandbox]:
    """Create a sandbox; raises ResolveError (exit 3) where this machine cannot run the target."""
    python = _interpreter(target)
    release = dotted_version(python.version)
    if not python_matches(script.requires_python, python.version):
        raise ResolveError(
            f"{script.path} cannot be resolved for {target.name} by pip-tools: "
            f"the Python {target.python} here is {release}, "
            f'and requires-python is "{script.requires_python}"',
            hint=f"install such a Python, or {USE_UV}",
        )
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as name:
        folder = Path(name)
        (folder / "tools").mkdir()
        for tool in _tools(target, release):
            _link(tool, folder / "tools")
        environment = {key: value for key, value in os.environ.items() if key not in _DROPPED}
        environment |= {
            "PATH": absolute_path(),  # pip starts git
            "PYTHONPATH": str(folder / "tools"),
            "PYTHONNOUSERSITE": "1",
            "PYTHONUTF8": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "PIP_REQUIRE_VIRTUALENV": "0",
        }
        # the environment that this program is installed in may have a pip.conf
        is_own = os.path.realpath(sys.executable) == python.path
        yield PipSandbox(folder, sys.executable if is_own else python.path, environment)


def _interpreter(target: Target) -> Interpreter:
    """Return an interpreter of this machine that is the target itself."""
    here = Target(target.python, host_platform())
    is_here = (here.system, here.architecture) == (target.system, target.architecture)
    message = f"pip-tools cannot resolve for {target.name}"
    if not is_here or (target.glibc or (0, 0)) > (here.glibc or (0, 0)):
        raise ResolveError(
            f"{message}: pip resolves for the machine it runs on, and this is {here.platform}",
            hint=f"build there, or {USE_UV}",
        )
    pythons = Interpreters(None, Node())
    fitting = pythons.of_minor(target.version, free_threaded=target.is_free_threaded)
    python = next(fitting, None)
    if python is None:
        raise ResolveError(
            f"{message}: pip resolves for the Python it runs in, "
            f"and there is no Python {target.python} here",
            hint=f"install one, or {USE_UV}",
        )
    return python


def _tools(target: Target, release: str) -> list[Distribution]:
    """Return pip-tools and all it requires: plain Python, which other interpreters can run."""
    tools: dict[str, Distribution] = {}
    problems = []
    queue = ["pip-tools"]
    environment = {key: str(value) for key, value in target.environment(release).items()}
    while queue:
        name = canonicalize_name(queue.pop())
        if name in tools:
            continue
        try:
            tools[name] = distribution(name)
        except PackageNotFoundError:
            if name == "pip-tools":
                raise InputError(
                    "--resolver pip-tools: pip-tools is not installed",
                    hint="install offline-bundle again with its dependencies",
                ) from None
            problems.append(f"pip-tools requires {name}, which is not installed")
            continue
        requires_python = str(tools[name].metadata.json.get("requires_python", ""))
        if not SpecifierSet(requires_python).contains(release, prereleases=True):
            problems.append(f"{name} {tools[name].version} requires Python {requires_python}")
        queue += _requirements(tools[name], environment)
    if problems:
        raise ResolveError(
            f"pip-tools cannot resolve for {target.name}: it cannot run in Python {release}",
            problems=problems,
            hint=USE_UV,
        )
    return list(tools.values())


def _requirements(tool: Distribution, environment: Mapping[str, str]) -> Iterator[str]:
    for text in tool.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or marker.evaluate({**environment, "extra": ""}):
            yield requirement.name


def _link(tool: Distribution, folder: Path) -> None:
    """Make the packages of a distribution importable from *folder*, and no others."""
    names = {file.parts[0] for file in tool.files or ()} - {"..", "__pycache__"}
    for name in names:
        if not (folder / name).exists():
            (folder / name).symlink_to(Path(str(tool.locate_file(name))).resolve())
