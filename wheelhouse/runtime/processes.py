"""Find programs, and set up the environment and the signals that they are started with."""

import os
import sys

from .errors import InputError
from .names import PYTHON_VARIABLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Optional, Union

_DROPPED_VARIABLES = (
    *PYTHON_VARIABLES,
    "CONDA_PREFIX",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "PYTHONPYCACHEPREFIX",
)


def explicit_program(program: str, kind: str) -> str:
    """Return the absolute path of a program that the user named by a path, or by a name on PATH."""
    path = os.path.abspath(program) if os.path.dirname(program) else find_program(program)
    if not path or not os.access(path, os.X_OK) or os.path.isdir(path):
        raise InputError(
            f"there is no {kind} {program} that can be run", hint="check its path and permissions"
        )
    return path


def find_program(name: str) -> "Optional[str]":
    """Return the path of the first program *name* on PATH, or None."""
    return next(find_programs(name), None)


def find_programs(name: str) -> "Iterator[str]":
    """Yield the path of each program *name* on PATH, in order."""
    suffixes = ("", ".exe") if sys.platform == "win32" else ("",)
    for folder in absolute_path().split(os.pathsep):
        for suffix in suffixes if folder else ():
            path = os.path.join(folder, name + suffix)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                yield path


def absolute_path() -> str:
    """Return PATH without relative folders.

    An empty one is the working folder, where another user may have put a program of that name.
    """
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(filter(os.path.isabs, folders))


def tool_variables(uv_cache: "Optional[str]" = None) -> "dict[str, str]":
    """Return the environment variables without those that redirect Python, uv or pip.

    With *uv_cache*, uv is set up to work offline with that cache.
    """
    variables = {
        name: text
        for name, text in os.environ.items()
        if name not in _DROPPED_VARIABLES and not name.upper().startswith(("UV_", "PIP_"))
    }
    variables["PATH"] = absolute_path()
    # pip reads the machine's file even if isolated: its constraints would replace the lock
    variables["PIP_CONFIG_FILE"] = os.devnull
    if uv_cache:
        variables.update(
            UV_CACHE_DIR=uv_cache, UV_OFFLINE="1", UV_NO_PROGRESS="1", UV_PYTHON_DOWNLOADS="never"
        )
    return variables


def run_captured(
    command: "Sequence[str]",
    folder: "Union[str, os.PathLike[str], None]" = None,
    variables: "Optional[Mapping[str, str]]" = None,
    seconds: "Optional[float]" = None,
) -> "subprocess.CompletedProcess[str]":
    """Run *command* in *folder*, without input; return its exit code and what it printed.

    The output is text, whatever bytes are in it. Raises OSError, or TimeoutExpired after *seconds*.
    """
    import subprocess

    return subprocess.run(
        command,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=seconds,
        check=False,
    )


def stop_ignoring_children() -> bool:
    """Set SIGCHLD to its default; return whether it was ignored before.

    A parent may leave it ignored. The system then discards the exit codes of children, and
    `subprocess` reports 0 for each of them.
    """
    import signal

    if sys.platform == "win32" or signal.getsignal(signal.SIGCHLD) != signal.SIG_IGN:
        return False
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    except ValueError:  # only the main thread may
        return False
    return True


def ignore_children() -> None:
    """Ignore SIGCHLD again, for a program that replaces this process."""
    import signal

    if sys.platform != "win32":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
