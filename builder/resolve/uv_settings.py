"""uv settings: a script's `[tool.uv]` table, uv's configuration files and its environment."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from offline_bundle.builder.fetch.model import TlsSettings
from offline_bundle.builder.inputs.uv_sources import source_entries
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from offline_bundle.builder.inputs.scripts import Script

_LOCATIONS = ("index-url", "default-index")
_LOCATION_LISTS = ("find-links", "extra-index-url")
_REQUIREMENT_LISTS = (
    "constraint-dependencies",
    "override-dependencies",
    "build-constraint-dependencies",
)
_INDEX_VARIABLES = (
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
)


def absolute_settings(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a `[tool.uv]` table with every relative path resolved against *folder*."""
    result = dict(settings)
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
        result["sources"] = {
            name: _absolute_source(source, folder) for name, source in result["sources"].items()
        }
    return result


def absolute_requirement(text: Any, folder: Path) -> Any:  # noqa: ANN401 - any TOML value
    """Return a requirement with the relative path of `foo @ ./foo`, which uv takes, resolved."""
    if not isinstance(text, str):
        return text
    match = re.fullmatch(r"(\s*[A-Za-z0-9._-]+\s*(?:\[[^]]*\])?\s*@\s*)(\.{1,2}/\S*)(.*)", text)
    return f"{match[1]}{(folder / match[2]).resolve().as_uri()}{match[3]}" if match else text


def absolute_location(location: Any, folder: Path) -> Any:  # noqa: ANN401 - any TOML value
    """Return a URL as it is, and a path resolved against *folder*."""
    if not isinstance(location, str) or not location or _is_url(location):
        return location
    return str((folder / location).resolve())


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


def index_locations(script_settings: Mapping[str, Any]) -> list[tuple[str | None, str]]:
    """Return (name, URL) of every index and find-links page that uv may read."""
    locations: list[tuple[str | None, str]] = []
    for settings in (script_settings, *(table for _, table in configurations())):
        locations += [(entry.get("name"), entry["url"]) for entry in _index_entries(settings)]
        plain = [settings.get("index-url"), *_list(settings.get("extra-index-url"))]
        plain += _list(settings.get("find-links"))
        locations += [(None, url) for url in plain if isinstance(url, str)]
    for variable in _INDEX_VARIABLES:
        words = os.environ.get(variable, "").replace(",", " ").split()
        locations += [split_index(word) for word in words]
    return locations


def uses_keyring(scripts: Iterable[Script]) -> bool:
    """Return True if uv is configured to read passwords from the `keyring` program."""
    values = [os.environ.get("UV_KEYRING_PROVIDER")]
    for settings in _all_settings(scripts):
        pip = settings.get("pip")
        values.append(settings.get("keyring-provider"))
        values.append(pip.get("keyring-provider") if isinstance(pip, dict) else None)
    return next((value for value in values if value), None) == "subprocess"


def tls_settings(scripts: Iterable[Script], insecure_hosts: Iterable[str]) -> TlsSettings:
    """Return the TLS settings of flags (*insecure_hosts*), environment and configuration."""
    hosts = [*insecure_hosts, *os.environ.get("UV_INSECURE_HOST", "").replace(",", " ").split()]
    system = [is_true(os.environ.get(name)) for name in ("UV_SYSTEM_CERTS", "UV_NATIVE_TLS")]
    for settings in _all_settings(scripts):
        insecure = _list(settings.get("allow-insecure-host"))
        hosts += [host for host in insecure if isinstance(host, str)]
        system += [settings.get(key) is True for key in ("system-certs", "native-tls")]
    names = frozenset(re.sub(r"^\w+://", "", host).rstrip("/").lower() for host in hosts)
    return TlsSettings(names, any(system))


def own_indexes(script_settings: Mapping[str, Any], folder: Path) -> list[tuple[str | None, str]]:
    """Return (name, URL) of a script's indexes for any package; explicit ones are left out."""
    entries = _index_entries(absolute_settings(script_settings, folder))
    return [(entry.get("name"), entry["url"]) for entry in entries if not entry.get("explicit")]


def split_index(text: str) -> tuple[str | None, str]:
    """Split `NAME=URL` or `URL`, as `--index` takes it."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+)=(.+)", text)
    return (match[1], match[2]) if match else (None, text)


def requirement_name(requirement: str) -> str:
    """Return the normalized name that *requirement* (PEP 508) begins with, or an empty string."""
    match = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    return str(canonicalize_name(match[1])) if match else ""


def configurations() -> list[tuple[str, dict[str, Any]]]:
    """Return the configuration files that uv reads, with their paths.

    The rules are https://docs.astral.sh/uv/concepts/configuration-files/.
    """
    if os.environ.get("UV_CONFIG_FILE"):
        path = Path(os.environ["UV_CONFIG_FILE"])
        if not path.is_file():
            raise InputError(f"{path}: no such file", hint="correct UV_CONFIG_FILE")
        return [(str(path), read_toml(path))]
    paths = [] if os.environ.get("UV_NO_CONFIG") else [*_user_files(), *_system_files()]
    return [(str(path), read_toml(path)) for path in paths if path.is_file()]


def read_toml(path: Path) -> dict[str, Any]:
    """Return the table in *path*; raises InputError (exit 2)."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        hint = "correct it: uv cannot read it either"
        raise InputError(f"{path}: cannot read uv's configuration: {error}", hint=hint) from error


def is_true(value: str | None) -> bool:
    """Return True for values of variables that uv takes as true."""
    return (value or "").lower() in {"1", "true", "yes", "on", "y", "t"}


def _user_files() -> list[Path]:
    if os.environ.get("XDG_CONFIG_HOME"):
        return [Path(os.environ["XDG_CONFIG_HOME"], "uv", "uv.toml")]
    try:
        return [Path.home() / ".config" / "uv" / "uv.toml"]
    except RuntimeError:  # neither HOME nor an entry in the password database
        return []


def _system_files() -> list[Path]:
    """Return the first system-wide file that exists: uv reads no other."""
    if os.environ.get("UV_NO_SYSTEM_CONFIG"):
        return []
    folders = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    paths = [Path(folder, "uv", "uv.toml") for folder in folders if folder]
    return [path for path in (*paths, Path("/etc/uv/uv.toml")) if path.is_file()][:1]


def _all_settings(scripts: Iterable[Script]) -> list[dict[str, Any]]:
    return [*(script.settings for script in scripts), *(table for _, table in configurations())]


def _absolute_source(source: Any, folder: Path) -> Any:  # noqa: ANN401 - any TOML value
    if isinstance(source, list):
        return [_absolute_source(entry, folder) for entry in source]
    if isinstance(source, dict):
        # A bundle holds wheels: `editable` would only start another build of the backend.
        source = {key: value for key, value in source.items() if key != "editable"}
    return _absolute_entry(_absolute_entry(source, "path", folder), "url", folder)


def _absolute_entry(entry: Any, key: str, folder: Path) -> Any:  # noqa: ANN401 - any TOML value
    if isinstance(entry, dict) and isinstance(entry.get(key), str):
        return {**entry, key: absolute_location(entry[key], folder)}
    return entry


def _index_entries(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = _list(settings.get("index"))
    return [
        entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("url"), str)
    ]


def _is_url(location: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", location) is not None


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - any TOML value
    return value if isinstance(value, list) else []
