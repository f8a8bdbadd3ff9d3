"""uv's configuration files: which of them `uv run SCRIPT` reads, and the tables in them.

The rules are https://docs.astral.sh/uv/concepts/configuration-files/.
"""

from __future__ import annotations

import functools
import os
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from offline_bundle.builder.inputs.uv_sources import tool_uv
from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.processes import run_captured
from offline_bundle.wheelhouse.runtime.text import printable

_FAULT = re.compile(r"TOML parse error at (line \d+), .*\n(?:[\d ]*\|.*\n)*\s*(.*)")


def configuration_files(script_folder: Path | None) -> list[tuple[Path, dict[str, Any]]]:
    """Return the files that uv reads with their `[tool.uv]` tables, the most important first.

    The project's file depends on *script_folder*. Raises InputError (exit 2) where uv stops.
    """
    if os.environ.get("UV_CONFIG_FILE"):
        path = Path(os.environ["UV_CONFIG_FILE"])
        if not path.is_file():
            raise InputError(f"{path}: no such file", hint="correct UV_CONFIG_FILE")
        return [(path, _uv_toml(path))]
    if is_true(os.environ.get("UV_NO_CONFIG")):
        return []
    project = _project_files(script_folder)[0] if script_folder else []
    paths = [*_user_files(), *_system_files()]
    return [*project, *((path, _uv_toml(path)) for path in paths if path.is_file())]


def ignored_projects(script_folder: Path) -> list[str]:
    """Return a note for each `pyproject.toml` whose settings uv ignores, with a warning."""
    if os.environ.get("UV_CONFIG_FILE") or is_true(os.environ.get("UV_NO_CONFIG")):
        return []
    return _project_files(script_folder)[1]


def is_true(value: str | None) -> bool:
    """Return True for values of variables that uv takes as true."""
    return (value or "").lower() in {"1", "true", "yes", "on", "y", "t"}


def user_folder() -> Path | None:
    """Return the folder of the user's configuration files of all programs."""
    if os.environ.get("XDG_CONFIG_HOME"):
        return Path(os.environ["XDG_CONFIG_HOME"])
    try:
        return Path.home() / ".config"
    except RuntimeError:  # neither HOME nor an entry in the password database
        return None


def _project_files(script_folder: Path) -> tuple[list[tuple[Path, dict[str, Any]]], list[str]]:
    """Return the first file from *script_folder* upwards, and notes on those that uv ignores.

    `uv.toml` wins over `pyproject.toml`.
    """
    folder = workspace_root(script_folder) or script_folder
    notes: list[str] = []
    for ancestor in (folder, *folder.parents):
        path = ancestor / "uv.toml"
        if path.exists():
            return [(path, _uv_toml(path))], notes
        path = ancestor / "pyproject.toml"
        content = _content(path) if path.is_file() else b""
        fault = _fault(path.name, content) if b"uv" in content else ""
        if fault:
            notes.append(f"{path}: ignored, as uv cannot read its settings: {fault}")
            continue
        table = tool_uv(_pyproject(ancestor))
        if table is not None:
            return [(path, table)], notes
    return [], notes


def _uv_toml(path: Path) -> dict[str, Any]:
    """Return the table in a `uv.toml`, whatever its name; raises InputError (exit 2)."""
    content = _content(path)
    fault = _fault("uv.toml", content)
    try:
        table = {} if fault else tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # not UTF-8
        fault = str(error)
    if fault:
        raise InputError(f"{path}: uv cannot read it: {fault}", hint="correct it: uv run stops too")
    return table


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot read uv's configuration: {error.strerror}"
        raise InputError(message, hint="allow reading it, or set UV_NO_CONFIG=1") from error


@functools.cache
def _fault(name: str, content: bytes) -> str:
    """Return why uv cannot read a configuration file of this *name* and *content*, or nothing."""
    import uv  # noqa: PLC0415 - only a build needs it

    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
        Path(folder, name).write_bytes(content)
        command = [uv.find_uv_bin(), "cache", "dir", "--color", "never"]
        variables = {"HOME": folder, "UV_NO_SYSTEM_CONFIG": "1", "COLUMNS": "9999"}
        process = run_captured(command, folder, variables)
    fault = _FAULT.search(process.stderr)
    if fault:
        return printable(f"{fault[1]}: {fault[2].partition(', expected one of')[0]}")
    refused = re.search(r"`\S+` field is not allowed in a `uv.toml` file", process.stderr)
    return printable(refused[0]) if refused else ""


def workspace_root(folder: Path) -> Path | None:
    """Return the root of the project or workspace with *folder*: uv searches from there upwards."""
    projects = [path for path in (folder, *folder.parents) if (path / "pyproject.toml").is_file()]
    if not projects:
        return None
    project, document = projects[0], _pyproject(projects[0])
    table = tool_uv(document) or {}
    if table.get("managed") is False:
        return None
    if isinstance(table.get("workspace"), dict):
        return project
    if not isinstance(document.get("project"), dict):
        return None
    # uv does not search beyond the next pyproject.toml
    workspaces = [root for root in projects[1:2] if _is_member(project, root)]
    return workspaces[0] if workspaces else project


def _is_member(project: Path, root: Path) -> bool:
    workspace = (tool_uv(_pyproject(root)) or {}).get("workspace")
    if not isinstance(workspace, dict):
        return False

    def is_listed(key: str) -> bool:
        patterns = workspace.get(key)
        return any(
            project in root.glob(pattern.rstrip("/"))
            for pattern in (patterns if isinstance(patterns, list) else [])
            if isinstance(pattern, str) and pattern.strip("/.")
        )

    return is_listed("members") and not is_listed("exclude")


def _pyproject(folder: Path) -> dict[str, Any]:
    """Return the `pyproject.toml` in *folder*; uv ignores one that it cannot parse."""
    path = folder / "pyproject.toml"
    try:
        return tomllib.loads(_content(path).decode("utf-8-sig")) if path.is_file() else {}
    except (ValueError, RecursionError):  # not UTF-8 or not TOML
        return {}


def _user_files() -> list[Path]:
    folder = user_folder()
    return [folder / "uv" / "uv.toml"] if folder else []


def _system_files() -> list[Path]:
    """Return the first system-wide file that exists: uv reads no other."""
    if is_true(os.environ.get("UV_NO_SYSTEM_CONFIG")):
        return []
    folders = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    paths = [Path(folder, "uv", "uv.toml") for folder in folders if folder]
    return [path for path in (*paths, Path("/etc/uv/uv.toml")) if path.is_file()][:1]
