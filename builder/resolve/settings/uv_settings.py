"""uv settings: a script's `[tool.uv]` table, uv's configuration files and its environment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from offline_bundle.builder.fetch.model import TlsSettings
from offline_bundle.builder.inputs.scripts import Script
from offline_bundle.builder.inputs.uv_sources import list_at, source_entries
from offline_bundle.builder.resolve.settings.uv_files import (
    configuration_files,
    ignored_projects,
    is_true,
)

_NOT_FOR_BUILDS = {
    "config-settings-package",
    "constraint-dependencies",
    "exclude-dependencies",
    "extra-build-variables",
    "override-dependencies",
    "sources",
}
_DECIDING_SETTINGS = (
    "build-constraint-dependencies",
    "config-settings",
    "config-settings-package",
    "dependency-metadata",
    "exclude-newer",
    "exclude-newer-package",
    "extra-build-dependencies",
    "extra-build-variables",
    "fork-strategy",
    "index-strategy",
    "no-binary",
    "no-binary-package",
    "no-build",
    "no-build-isolation",
    "no-build-isolation-package",
    "no-build-package",
    "no-index",
    "prerelease",
    "prerelease-package",
    "resolution",
)
DECIDING_VARIABLES = (
    "SOURCE_DATE_EPOCH",
    "UV_EXCLUDE_NEWER",
    "UV_FORK_STRATEGY",
    "UV_GIT_LFS",
    "UV_INDEX_STRATEGY",
    "UV_NO_BUILD_ISOLATION",
    "UV_PRERELEASE",
    "UV_RESOLUTION",
)
"""Variables, besides indexes, that decide which packages are taken and what builds give."""
_LOCATIONS = ("index-url", "default-index")
_LOCATION_LISTS = ("find-links", "extra-index-url")
_REQUIREMENT_LISTS = (
    "constraint-dependencies",
    "override-dependencies",
    "build-constraint-dependencies",
)
# Settings in a configuration file that `uv run SCRIPT` does not apply, or that would lift a binding
# of the script to an index (`no-sources`).
_NOT_FOR_SCRIPTS = {
    "build-backend",
    "build-constraint-dependencies",
    "cache-keys",
    "conflicts",
    "constraint-dependencies",
    "default-groups",
    "dependency-groups",
    "dev-dependencies",
    "environments",
    "exclude-dependencies",
    "extra-build-dependencies",
    "managed",
    "minimum-libc-version",
    "no-sources",
    "no-sources-package",
    "override-dependencies",
    "package",
    "pip",
    "reinstall",
    "reinstall-package",
    "required-environments",
    "sources",
    "upgrade",
    "upgrade-package",
    "workspace",
}
_INDEX_VARIABLES = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_FIND_LINKS")
# Variables that `uv pip compile` ranks otherwise than `uv run`, or that would override the flags
# (which sources may be built): a build passes them on as settings.
VARIABLES_AS_SETTINGS = {
    "UV_INDEX_URL": "index-url",
    "UV_EXTRA_INDEX_URL": "extra-index-url",
    "UV_NO_BINARY": "no-binary",
    "UV_NO_BINARY_PACKAGE": "no-binary-package",
    "UV_NO_BUILD": "no-build",
    "UV_NO_BUILD_PACKAGE": "no-build-package",
}


def absolute_settings(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a `[tool.uv]` table with every relative path resolved against *folder*.

    The table `pip` is left out: `uv run` ignores it, and `uv pip compile` does not.
    """
    result = {key: value for key, value in settings.items() if key != "pip"}
    for key in _LOCATIONS:
        if isinstance(result.get(key), str):
            result[key] = absolute_location(result[key], folder)
    for key in _LOCATION_LISTS:
        if isinstance(result.get(key), list):
            result[key] = [absolute_location(location, folder) for location in result[key]]
    for key in _REQUIREMENT_LISTS:
        if isinstance(result.get(key), list):
            result[key] = [absolute_requirement(text, folder) for text in result[key]]
    if isinstance(result.get("index"), list):
        result["index"] = [_absolute_entry(entry, "url", folder) for entry in result["index"]]
    if isinstance(result.get("sources"), dict):
        sources = {name: _absolute_source(s, folder) for name, s in result["sources"].items()}
        result["sources"] = {name: entries for name, entries in sources.items() if entries}
    return result


def absolute_requirement(text: Any, folder: Path) -> Any:  # noqa: ANN401 - any TOML value
    """Return a requirement with the relative path of `foo @ ./foo`, which uv takes, resolved."""
    if not isinstance(text, str):
        return text
    match = re.fullmatch(r"(\s*[A-Za-z0-9._-]+\s*(?:\[[^]]*\])?\s*@\s*)(\.{1,2}/\S*)(.*)", text)
    return f"{match[1]}{(folder / match[2]).resolve().as_uri()}{match[3]}" if match else text


def absolute_location(location: Any, folder: Path) -> Any:  # noqa: ANN401 - any TOML value
    """Return a URL without the spaces around it, and a path resolved against *folder*."""
    if not isinstance(location, str) or not location:
        return location
    url = location.strip()  # as uv does, but not for a path
    return url if has_scheme(url) else str((folder / location).resolve())


def pinned_names(script: Script) -> set[str]:
    """Return names in `[tool.uv.sources]` that the script itself does not always require.

    uv applies a source where the script requires the package, not where another package does.
    Then a package of the same name would be taken from any index.
    """
    required = {requirement_name(text) for text in script.dependencies if ";" not in text}
    return {
        name
        for name, entry in source_entries(script.settings)
        if not entry.keys() & {"extra", "group", "workspace"}
    } - required


def index_locations(script: Script) -> list[tuple[str | None, str]]:
    """Return (name, URL) of every index and find-links page that uv may read for *script*."""
    locations: list[tuple[str | None, str]] = []
    for settings in all_settings(script):
        locations += [(entry.get("name"), entry["url"]) for entry in _index_entries(settings)]
        plain = [settings.get("index-url"), *list_at(settings, "extra-index-url")]
        plain += list_at(settings, "find-links")
        locations += [(None, url) for url in plain if isinstance(url, str)]
    for variable in _INDEX_VARIABLES:
        words = os.environ.get(variable, "").replace(",", " ").split()
        locations += [split_index(word) for word in words]
    return locations


def uses_keyring(scripts: Iterable[Script]) -> bool:
    """Return True if uv is configured to read passwords from the `keyring` program."""
    variable = os.environ.get("UV_KEYRING_PROVIDER")
    if variable:
        return variable == "subprocess"
    for script in scripts:
        values = [settings.get("keyring-provider") for settings in all_settings(script)]
        if next((value for value in values if value), None) == "subprocess":
            return True
    return False


def tls_settings(scripts: Iterable[Script], insecure_hosts: Iterable[str]) -> TlsSettings:
    """Return the TLS settings of flags (*insecure_hosts*), environment and configuration."""
    hosts = [*insecure_hosts, *os.environ.get("UV_INSECURE_HOST", "").replace(",", " ").split()]
    system = [is_true(os.environ.get(name)) for name in ("UV_SYSTEM_CERTS", "UV_NATIVE_TLS")]
    for settings in (settings for script in scripts for settings in all_settings(script)):
        insecure = list_at(settings, "allow-insecure-host")
        hosts += [host for host in insecure if isinstance(host, str)]
        system += [settings.get(key) is True for key in ("system-certs", "native-tls")]
    names = frozenset(re.sub(r"^\w+://", "", host).rstrip("/").lower() for host in hosts)
    return TlsSettings(names, any(system))


def split_index(text: str) -> tuple[str | None, str]:
    """Split `NAME=URL` or `URL`, as `--index` takes it."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+)=(.+)", text)
    return (match[1], match[2]) if match else (None, text)


def requirement_name(requirement: str) -> str:
    """Return the normalized name that *requirement* (PEP 508) begins with, or an empty string."""
    match = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    return str(canonicalize_name(match[1])) if match else ""


def environment_settings() -> dict[str, Any]:
    """Return the variables that are passed to uv as settings, see `VARIABLES_AS_SETTINGS`."""
    settings: dict[str, Any] = {}
    for variable, key in VARIABLES_AS_SETTINGS.items():
        text = os.environ.get(variable, "")
        if key == "index-url":
            settings |= {key: text} if text else {}
        elif key.endswith(("package", "index-url")):
            names = text.split() if key.endswith("url") else text.replace(",", " ").split()
            settings |= {key: names} if names else {}
        elif is_true(text):
            settings[key] = True
    return absolute_settings(settings, Path.cwd())


def configurations(script_folder: Path | None) -> list[tuple[str, dict[str, Any]]]:
    """Return the settings of variables and configuration files that uv applies to a script.

    The most important is first. Relative paths are resolved against the file's folder.
    """
    return [
        ("the environment (UV_NO_BINARY…)", environment_settings()),
        *(
            (str(path), _for_scripts(absolute_settings(table, path.resolve().parent)))
            for path, table in configuration_files(script_folder)
        ),
    ]


def configuration_notes(scripts: Iterable[Script]) -> list[str]:
    """Return notes on project files around the *scripts* whose settings uv ignores."""
    folders = filter(None, map(script_folder, scripts))
    notes = [note for folder in folders for note in ignored_projects(folder)]
    return list(dict.fromkeys(notes))


def merged_configuration(script_folder: Path | None) -> dict[str, Any]:
    """Return the variables and all configuration files as one table, combined as uv does."""
    return combined_settings(table for _, table in configurations(script_folder))


def combined_settings(tables: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return *tables*, the most important first, as one table."""
    result: dict[str, Any] = {}
    for settings in tables:
        for key, value in settings.items():
            current = result.get(key)
            if isinstance(current, list) and isinstance(value, list):
                result[key] = [*current, *value]
            elif isinstance(current, dict) and isinstance(value, dict):
                result[key] = {**value, **current}
            else:
                result.setdefault(key, value)
    if isinstance(result.get("index"), list):
        result["index"] = list(_unique_indexes(result["index"]))
    return result


def deciding_settings(script: Script) -> dict[str, Any]:
    """Return the settings, besides indexes, that decide which packages *script* gets."""
    settings = combined_settings(all_settings(script))
    return {key: settings[key] for key in _DECIDING_SETTINGS if key in settings}


def build_settings(script: Script, package: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the settings for `uv build` of a package that *script* uses, and variables for it.

    `uv build` ignores those of single packages.
    """
    settings = combined_settings(all_settings(script))
    options, more = (
        _of_package(settings, key, package)
        for key in ("config-settings-package", "extra-build-variables")
    )
    for key, value in options.items():
        current = settings.setdefault("config-settings", {})
        current[key] = [*_as_list(value), *_as_list(current[key])] if key in current else value
    settings = {key: value for key, value in settings.items() if key not in _NOT_FOR_BUILDS}
    return settings, {name: value for name, value in more.items() if isinstance(value, str)}


def script_folder(script: Script) -> Path | None:
    """Return the folder where uv begins to search for the project's configuration, if it does."""
    if not script.has_project:
        return None
    # links stay: uv searches beside the link, not beside its target
    path = os.environ.get("UV_PROJECT") or os.path.dirname(script.path)  # noqa: PTH120
    return Path(os.path.abspath(path))  # noqa: PTH100


def all_settings(script: Script) -> list[dict[str, Any]]:
    """Return the tables that decide for *script*: its own, of variables, and of files."""
    folder = script.path.resolve().parent
    files = configurations(script_folder(script))
    return [absolute_settings(script.settings, folder), *(table for _, table in files)]


def _for_scripts(settings: dict[str, Any]) -> dict[str, Any]:
    result = {key: value for key, value in settings.items() if key not in _NOT_FOR_SCRIPTS}
    if isinstance(result.get("cache-dir"), str):
        result["cache-dir"] = absolute_location(result["cache-dir"], Path.cwd())
    return result


def _unique_indexes(entries: list[Any]) -> Iterator[Any]:
    """Yield the first index of each name, and the first default index: the others have no effect.

    uv refuses two default indexes in one file, but not in several.
    """
    names, has_default = set(), False
    for entry in entries:
        if isinstance(entry, dict):
            name, is_default = entry.get("name"), entry.get("default") is True
            if name in names or (is_default and has_default):
                continue
            names |= {name} if name else set()
            has_default |= is_default
        yield entry


def _absolute_source(source: Any, folder: Path) -> Any:  # noqa: ANN401 - any TOML value
    """Return the entries of a source without what uv ignores in scripts: extras and groups."""
    entries = source if isinstance(source, list) else [source]
    absolute = [_absolute_entry(_absolute_entry(e, "path", folder), "url", folder) for e in entries]
    return [
        {key: value for key, value in entry.items() if key != "group"}
        for entry in absolute
        if isinstance(entry, dict) and "extra" not in entry
    ]


def _of_package(settings: Mapping[str, Any], key: str, package: str) -> dict[str, Any]:
    tables = settings.get(key)
    for name, table in tables.items() if isinstance(tables, dict) else ():
        if canonicalize_name(name) == package and isinstance(table, dict):
            return table
    return {}


def _as_list(value: Any) -> list[Any]:  # noqa: ANN401 - any TOML value
    return value if isinstance(value, list) else [value]


def _absolute_entry(entry: Any, key: str, folder: Path) -> Any:  # noqa: ANN401 - any TOML value
    if isinstance(entry, dict) and isinstance(entry.get(key), str):
        return {**entry, key: absolute_location(entry[key], folder)}
    return entry


def _index_entries(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = list_at(settings, "index")
    return [
        entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("url"), str)
    ]


def has_scheme(location: str) -> bool:
    """Return True for a URL, also of a file; a Windows drive is none."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", location) is not None
