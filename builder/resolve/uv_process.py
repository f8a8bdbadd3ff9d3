"""uv processes: the executable, its version, its arguments for indexes, and its environment."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from offline_bundle.builder.fetch.credential_helpers import keyring_path
from offline_bundle.builder.resolve.model import ResolveOptions
from offline_bundle.builder.resolve.settings import uv_settings
from offline_bundle.builder.resolve.settings.uv_files import user_folder
from offline_bundle.wheelhouse.runtime.processes import run_captured

# Variables that would override the flags (which Python is meant), or that must not decide.
_DROPPED = (
    *uv_settings.VARIABLES_AS_SETTINGS,
    "UV_PYTHON",
    "UV_SYSTEM_PYTHON",
    "UV_CONFIG_FILE",
    "UV_NO_CONFIG",
    "UV_PROJECT",
    "UV_WORKING_DIR",
    "UV_NO_SOURCES",
    "UV_NO_SOURCES_PACKAGE",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "UV_CONSTRAINT_HASHES",
    "UV_REQUIRE_HASHES",
    # `uv run SCRIPT` does not read these
    "UV_BUILD_CONSTRAINT",
    "UV_CONSTRAINT",
    "UV_OVERRIDE",
    "UV_EXCLUDE",
    "UV_TORCH_BACKEND",
    "UV_CUSTOM_COMPILE_COMMAND",
)
# Variables that name one path, and lists of paths or URLs with their separators. uv runs in a
# temporary folder, but relative paths are meant from the user's.
_PATHS = (
    "UV_CACHE_DIR",
    "UV_PYTHON_INSTALL_DIR",
    "UV_PYTHON_CACHE_DIR",
    "UV_CREDENTIALS_DIR",
    "SSL_CERT_FILE",
    "SSL_CLIENT_CERT",
    "NETRC",
)
_PATH_LISTS = {"SSL_CERT_DIR": os.pathsep}
_INDEX_LISTS = {
    "UV_INDEX": " ",
    "UV_DEFAULT_INDEX": None,
    "UV_FIND_LINKS": ",",
}


def find_uv() -> str:
    """Return the executable of the installed package `uv`, which is pinned; not the one on PATH."""
    import uv  # noqa: PLC0415 - only a build needs it

    return os.fspath(uv.find_uv_bin())


def uv_version_here() -> str:
    """Return the version of that uv, such as "0.13.9"."""
    from importlib.metadata import version  # noqa: PLC0415 - only a build needs it

    return version("uv")


def run_uv(
    command: Sequence[str],
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    /,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Run uv in *folder* with the environment made for it, and *variables* on top.

    Its configuration is *settings*; by default, that of the user and the system.
    """
    return run_captured(command, folder, {**_environment(folder, settings), **variables})


def index_flags(options: ResolveOptions) -> list[str]:
    """Return the options about indexes, for any uv command; see `index_variables` for the URLs."""
    flags = ["--index-strategy", options.index_strategy] if options.index_strategy else []
    flags += [part for host in options.insecure_hosts for part in ("--allow-insecure-host", host)]
    return flags + (["--exclude-newer", options.exclude_newer] if options.exclude_newer else [])


def index_variables(options: ResolveOptions) -> dict[str, str]:
    """Return the indexes as environment variables of uv.

    The URLs may hold passwords, and every user of the machine can read a process's arguments.
    As a flag would, each variable replaces the one that the user has set.
    """
    indexes = " ".join(_index_argument(index) for index in options.indexes)
    default = _index_argument(options.default_index) if options.default_index else ""
    find_links = ",".join(map(_location_argument, options.find_links))
    variables = {"UV_INDEX": indexes, "UV_DEFAULT_INDEX": default, "UV_FIND_LINKS": find_links}
    return {name: value for name, value in variables.items() if value}


def _index_argument(text: str) -> str:
    """Return a value of `--index` as UV_INDEX takes it."""
    name, location = uv_settings.split_index(text)
    return f"{name}={_location_argument(location)}" if name else _location_argument(location)


def _location_argument(location: str) -> str:
    """Return a folder as file:// URL: spaces and commas separate in uv's variables."""
    location = uv_settings.absolute_location(location, Path.cwd())
    if not uv_settings.has_scheme(location):
        location = Path(location).as_uri()
    return location.replace(" ", "%20").replace(",", "%2C")


def _environment(folder: Path, settings: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the user's environment without what would override the flags.

    uv would find no project's configuration from *folder*, and `uv pip` applies settings that `uv
    run` ignores. `UV_CONFIG_FILE` and `UV_NO_CONFIG` would also switch off the `[tool.uv]` of the
    temporary project, that is the script's own settings. So a file with what counts is put where uv
    looks for the user's configuration.
    """
    result = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    result |= {**_absolute_paths(result), "PATH": keyring_path()}
    configuration = folder / "configuration"
    _link_other_programs(configuration)
    (configuration / "uv").mkdir(parents=True, exist_ok=True)
    if settings is None:
        settings = uv_settings.merged_configuration(None)
    (configuration / "uv" / "uv.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
    # uv expands it in requirements, by default to the folder that it runs in
    result.setdefault("PROJECT_ROOT", str(Path.cwd()))
    result["XDG_CONFIG_HOME"] = str(configuration)
    result["UV_NO_SYSTEM_CONFIG"] = "1"
    return result


def _link_other_programs(configuration: Path) -> None:
    """Link the user's configuration of git, keyring and others into the folder for uv."""
    user = user_folder()
    if user is None or configuration.exists():
        return
    configuration.mkdir(parents=True)
    with contextlib.suppress(OSError):  # missing or unreadable: nothing to link
        for path in user.absolute().iterdir():
            if path.name != "uv":
                (configuration / path.name).symlink_to(path)


def _absolute_paths(variables: dict[str, str]) -> dict[str, str]:
    """Return the variables that name relative paths, resolved against the working folder."""
    result = {name: _absolute(variables[name]) for name in _PATHS if variables.get(name)}
    for name, separator in _PATH_LISTS.items():
        paths = variables.get(name, "").split(separator)
        result[name] = separator.join(_absolute(path) for path in paths if path)
    for name, delimiter in _INDEX_LISTS.items():
        text = variables.get(name, "")
        locations = text.split(delimiter) if delimiter else [text]
        result[name] = (delimiter or "").join(map(_index_argument, filter(None, locations)))
    return {name: value for name, value in result.items() if value}


def _absolute(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - links stay: uv may remove the folder they name
