"""Settings: defaults of options, from variables and files.

    command.main(arguments, default_map=Defaults("submit"))
    read_settings()["url"]                       # Value("https://hps.example/hps", "/site/…toml")

In order of precedence, as for uv: the command line; variables; the project's `offline-bundle.toml`
or `[tool.offline-bundle]` in its pyproject.toml, found from the working folder upwards; the user's
file; the system's file; and last the `offline-bundle.toml` that a bundle includes.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.names import SETTINGS
from offline_bundle.wheelhouse.runtime.text import printable

_SYSTEM_FILE = Path("/etc/offline-bundle") / SETTINGS
_JOBS = ("submit", "jobs")
_NOTED = {"url": "server", "engine": "engine"}
"""What decides where jobs run."""


@dataclass(frozen=True)
class Setting:
    """One setting: its key in files, its variables, and the options whose default it is."""

    description: str
    variables: tuple[str, ...]
    """The first one that is set counts."""
    parameters: Mapping[str, str]
    """Command -> name of its parameter."""
    is_list: bool = False
    is_path: bool = False
    travels: bool = False
    """True if a bundle may have it: not what decides which bundle is built or used."""


KNOWN: Mapping[str, Setting] = {
    "bundle": Setting(
        "Bundle folder",
        ("OFFLINE_BUNDLE",),
        {
            "build": "output",
            **dict.fromkeys(("run", "submit", "embedded-hps"), "bundle"),
        },
        is_path=True,
    ),
    "python-version": Setting(
        "Pythons of the nodes",
        ("OFFLINE_BUNDLE_PYTHON_VERSION",),
        {"build": "python_versions"},
        is_list=True,
    ),
    "python-platform": Setting(
        "Platforms of the nodes",
        ("OFFLINE_BUNDLE_PYTHON_PLATFORM",),
        {"build": "platforms"},
        is_list=True,
    ),
    "format": Setting(
        "Formats of the bundle", ("OFFLINE_BUNDLE_FORMAT",), {"build": "formats"}, is_list=True
    ),
    "engine": Setting(
        "Engine that runs jobs",
        ("OFFLINE_BUNDLE_ENGINE",),
        dict.fromkeys(_JOBS, "engine"),
        travels=True,
    ),
    "url": Setting(
        "HPS server",
        ("HPS_URL", "OFFLINE_BUNDLE_URL"),
        dict.fromkeys(_JOBS, "url"),
        travels=True,
    ),
    "username": Setting(
        "HPS user",
        ("HPS_USERNAME", "OFFLINE_BUNDLE_USERNAME"),
        dict.fromkeys(_JOBS, "username"),
        travels=True,
    ),
    "ca-file": Setting(
        "Certificates of the HPS server",
        ("OFFLINE_BUNDLE_CA_FILE",),
        dict.fromkeys(_JOBS, "ca_file"),
        is_path=True,
        travels=True,
    ),
    "results": Setting(
        "Results folder", ("OFFLINE_BUNDLE_RESULTS",), {"submit": "download"}, is_path=True
    ),
}


@dataclass(frozen=True)
class Value:
    """The value of a setting, and the variable or file that sets it."""

    value: str | list[str]
    origin: str
    is_from_bundle: bool = False


class Defaults(dict[str, Any]):
    """The defaults of a command's parameters, for click; read when the first one is needed.

    `--help` reads no file. The bundle's own settings count where the command names its folder.
    """

    def __init__(self, command: str) -> None:
        super().__init__()
        self._parameters = {
            setting.parameters[command]: key
            for key, setting in KNOWN.items()
            if command in setting.parameters
        }
        self._values: dict[Path | None, Mapping[str, Value]] = {}
        self._noted: set[str] = set()

    def __contains__(self, name: object) -> bool:
        """Return whether a variable or file sets the parameter."""
        key = self._parameters.get(str(name))
        return key is not None and key in self._settings()

    def __getitem__(self, name: str) -> str | list[str]:
        """Return the value of a parameter; report a server or an engine that a bundle chooses."""
        value = self._settings()[self._parameters[name]]
        if name in _NOTED and value.is_from_bundle and name not in self._noted:
            self._noted.add(name)
            text = printable(f"note: {value.origin} names the {_NOTED[name]} {value.value}")
            click.echo(text, err=True)
        return value.value

    def origin_in_bundle(self, name: str) -> str | None:
        """Return the bundle's file that sets a parameter, None where the user's own does."""
        value = self._settings().get(self._parameters.get(name, ""))
        return value.origin if value and value.is_from_bundle else None

    def _settings(self) -> Mapping[str, Value]:
        context = click.get_current_context(silent=True)
        if context and context.resilient_parsing:  # help or completion
            return {}
        named = context.params.get("bundle") if context else None
        bundle = Path(named) if isinstance(named, (str, Path)) else None
        if bundle not in self._values:
            self._values[bundle] = read_settings(bundle)
        return self._values[bundle]


def is_configured(context: click.Context, parameter: str) -> bool:
    """Return whether the value of a parameter is from a variable or file, as `Defaults` has it."""
    source = context.get_parameter_source(parameter)
    return source is click.core.ParameterSource.DEFAULT_MAP


def origin_in_bundle(context: click.Context, parameter: str) -> str | None:
    """Return the bundle's file that the value of a parameter is from, or None."""
    defaults = context.default_map
    if not isinstance(defaults, Defaults) or not is_configured(context, parameter):
        return None
    return defaults.origin_in_bundle(parameter)


def read_settings(bundle: Path | None = None) -> dict[str, Value]:
    """Return all settings that are set; *bundle* is the bundle whose own settings count.

    Without it, that of the setting `bundle`. Raises InputError (exit 2) for an invalid file.
    """
    values = dict(_from_variables())
    for path, table in _tables():
        for key, value in _parse(table, path).items():
            values.setdefault(key, value)
    if bundle is None and "bundle" in values:
        bundle = Path(str(values["bundle"].value))
    if bundle is not None and (bundle / SETTINGS).is_file():
        for key, value in read_bundle_settings(bundle / SETTINGS).items():
            values.setdefault(key, value)
    return values


def read_bundle_settings(path: Path) -> dict[str, Value]:
    """Return the settings of a file that is in a bundle, or will be; raises InputError (2)."""
    return _parse(_read(path), path, in_bundle=True)


def _parse(table: Mapping[str, Any], path: Path, *, in_bundle: bool = False) -> dict[str, Value]:
    """Check the settings of a file; relative paths are relative to it. Raises InputError (2)."""
    problems = [_problem(key, value, in_bundle=in_bundle) for key, value in table.items()]
    if any(problems):
        keys = ", ".join(key for key in KNOWN if KNOWN[key].travels or not in_bundle)
        raise InputError(
            f"{path}: invalid settings",
            problems=[problem for problem in problems if problem],
            hint=f"the settings {'of a bundle ' if in_bundle else ''}are: {keys}",
        )
    folder = path.resolve().parent
    return {
        key: Value(str(folder / value) if KNOWN[key].is_path else value, str(path), in_bundle)
        for key, value in table.items()
    }


def _problem(key: str, value: object, *, in_bundle: bool) -> str | None:
    if key not in KNOWN:
        close = get_close_matches(key.replace("_", "-"), KNOWN, n=1)
        return f"unknown setting {key}" + (f"; did you mean {close[0]}?" if close else "")
    setting = KNOWN[key]
    if in_bundle and not setting.travels:
        return f"{key}: a bundle cannot set it"
    if setting.is_list:
        is_valid = isinstance(value, list) and all(isinstance(text, str) for text in value)
    else:
        is_valid = isinstance(value, str)
    kind = "a list of strings" if setting.is_list else "a string"
    return None if is_valid else f"{key}: write {kind}"


def _from_variables() -> Iterator[tuple[str, Value]]:
    for key, setting in KNOWN.items():
        for variable in setting.variables:
            text = os.environ.get(variable)
            if text:
                value = text.replace(",", " ").split() if setting.is_list else text
                yield key, Value(value, variable)
                break


def _tables() -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the files that count, the most important first, with their settings."""
    named = os.environ.get("OFFLINE_BUNDLE_CONFIG_FILE")
    if named:
        yield Path(named), _read(Path(named))
        return
    if os.environ.get("OFFLINE_BUNDLE_NO_CONFIG"):
        return
    yield from _project_table()
    for path in (*_user_files(), _SYSTEM_FILE):
        if path.is_file():
            yield path, _read(path)


def _project_table() -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the first file from the working folder upwards."""
    try:
        folder = Path.cwd()
    except OSError:  # it was removed
        return
    for ancestor in (folder, *folder.parents):
        path = ancestor / SETTINGS
        if _is_own(path, folder) and not (ancestor / "bundle.json").is_file():
            yield path, _read(path)
            return
        path = ancestor / "pyproject.toml"
        if _is_own(path, folder):
            try:
                tool = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("tool", {})
            except (OSError, ValueError, RecursionError):  # other programs report that
                tool = {}
            if isinstance(tool, dict) and isinstance(tool.get("offline-bundle"), dict):
                yield path, tool["offline-bundle"]
                return


def _is_own(path: Path, folder: Path) -> bool:
    """Return whether a file is there that no other user put above the working *folder*.

    In a shared folder such as /tmp, it could name a hostile server.
    """
    if not path.is_file():
        return False
    if os.name == "nt":
        return True
    is_own = path.stat().st_uid in {os.getuid(), 0, folder.stat().st_uid}
    if not is_own:
        note = (
            f"note: {path} belongs to another user: not used; OFFLINE_BUNDLE_CONFIG_FILE names it"
        )
        click.echo(printable(note), err=True)
    return is_own


def _user_files() -> list[Path]:
    folder = os.environ.get("XDG_CONFIG_HOME")
    home = os.environ.get("HOME")
    parent = Path(folder) if folder else Path(home) / ".config" if home else None
    return [parent / "offline-bundle" / SETTINGS] if parent else []


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: TOML and UTF-8
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"{path}: cannot read the settings: {reason}", hint="correct the file, or remove it"
        ) from error
