"""uv's configuration files: which of them `uv run SCRIPT` reads, and the tables in them.

The rules are https://docs.astral.sh/uv/concepts/configuration-files/.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from offline_bundle.wheelhouse.runtime.errors import InputError


def configuration_files(script_folder: Path | None) -> list[tuple[Path, dict[str, Any]]]:
    """Return the files that uv reads with their `[tool.uv]` tables, the most important first.

    The project's file depends on *script_folder*. Raises InputError (exit 2).
    """
    if os.environ.get("UV_CONFIG_FILE"):
        path = Path(os.environ["UV_CONFIG_FILE"])
        if not path.is_file():
            raise InputError(f"{path}: no such file", hint="correct UV_CONFIG_FILE")
        return [(path, read_toml(path))]
    if os.environ.get("UV_NO_CONFIG"):
        return []
    project = _project_file(script_folder) if script_folder else []
    paths = [*_user_files(), *_system_files()]
    return [*project, *((path, read_toml(path)) for path in paths if path.is_file())]


def read_toml(path: Path) -> dict[str, Any]:
    """Return the table in *path*; raises InputError (exit 2)."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        hint = "correct it: uv cannot read it either"
        raise InputError(f"{path}: cannot read uv's configuration: {error}", hint=hint) from error


def user_folder() -> Path | None:
    """Return the folder of the user's configuration files of all programs."""
    if os.environ.get("XDG_CONFIG_HOME"):
        return Path(os.environ["XDG_CONFIG_HOME"])
    try:
        return Path.home() / ".config"
    except RuntimeError:  # neither HOME nor an entry in the password database
        return None


def _project_file(script_folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the first file from *script_folder* upwards; `uv.toml` wins over `pyproject.toml`."""
    folder = _workspace_root(script_folder) or script_folder
    for ancestor in (folder, *folder.parents):
        path = ancestor / "uv.toml"
        if path.is_file():
            return [(path, read_toml(path))]
        table = _tool_uv(_pyproject(ancestor))
        if table is not None:
            return [(ancestor / "pyproject.toml", table)]
    return []


def _workspace_root(folder: Path) -> Path | None:
    """Return the root of the project or workspace with *folder*: uv searches from there upwards."""
    projects = [path for path in (folder, *folder.parents) if (path / "pyproject.toml").is_file()]
    if not projects:
        return None
    project, document = projects[0], _pyproject(projects[0])
    table = _tool_uv(document) or {}
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
    workspace = (_tool_uv(_pyproject(root)) or {}).get("workspace")
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
        return read_toml(path) if path.is_file() else {}
    except InputError:
        return {}


def _tool_uv(document: dict[str, Any]) -> dict[str, Any] | None:
    tool = document.get("tool")
    table = tool.get("uv") if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else None


def _user_files() -> list[Path]:
    folder = user_folder()
    return [folder / "uv" / "uv.toml"] if folder else []


def _system_files() -> list[Path]:
    """Return the first system-wide file that exists: uv reads no other."""
    if os.environ.get("UV_NO_SYSTEM_CONFIG"):
        return []
    folders = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    paths = [Path(folder, "uv", "uv.toml") for folder in folders if folder]
    return [path for path in (*paths, Path("/etc/uv/uv.toml")) if path.is_file()][:1]
