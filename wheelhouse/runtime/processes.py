"""Find programs, and the environment variables that they are started with."""

import os
import sys

from .errors import InputError
from .names import PYTHON_VARIABLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


def explicit_program(program: str, kind: str) -> str:
    """Return the absolute path of a program that the user named by a path, or by a name on PATH."""
    path = os.path.abspath(program) if os.path.dirname(program) else find_program(program)
    if not path or not os.access(path, os.X_OK) or os.path.isdir(path):
        raise InputError(
            f"there is no {kind} {program} that can be run", hint="check its path and permissions"
        )
    return path


def find_program(program: str) -> "Optional[str]":
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        for suffix in ("", ".exe") if sys.platform == "win32" else ("",):
            path = os.path.join(os.path.abspath(folder), program + suffix) if folder else ""
            if path and os.path.isfile(path) and os.access(path, os.X_OK):
                return path
    return None


def tool_variables(uv_cache: "Optional[str]" = None) -> "dict[str, str]":
    """Environment variables without those that would send Python, uv or pip elsewhere."""
    dropped = (
        *PYTHON_VARIABLES,
        "CONDA_PREFIX",
        "PYTHONSTARTUP",
        "PYTHONUSERBASE",
        "PYTHONPYCACHEPREFIX",
    )
    variables = {
        name: text
        for name, text in os.environ.items()
        if name not in dropped and not name.upper().startswith(("UV_", "PIP_"))
    }
    if uv_cache:
        variables.update(
            UV_CACHE_DIR=uv_cache, UV_OFFLINE="1", UV_NO_PROGRESS="1", UV_PYTHON_DOWNLOADS="never"
        )
    return variables
