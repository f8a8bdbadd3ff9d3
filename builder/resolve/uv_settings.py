"""What else decides a resolution: the script's `[tool.uv]`, uv's configuration files and its environment variables.

Pure helpers over tables, and one context manager that makes the environment for a uv process.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
from packaging.utils import canonicalize_name

from offline_bundle.builder.fetch.credential_helpers import keyring_path
from offline_bundle.builder.fetch.credentials import redact
from offline_bundle.builder.fetch.tls import Trust
from offline_bundle.builder.inputs.scripts import metadata_error
from offline_bundle.wheelhouse.runtime.errors import FetchError, InputError
from offline_bundle.wheelhouse.runtime.paths import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from offline_bundle.builder.inputs.scripts import Script

# Settings of uv that name a local place, relative to the file they stand in.
_PATH_LISTS = ("find-links",)
# Variables that would take the decision of what may be built, or of which Python is meant, away from the flags.
_DROPPED = (
    "UV_NO_BINARY",
    "UV_NO_BINARY_PACKAGE",
    "UV_NO_BUILD",
    "UV_NO_BUILD_PACKAGE",
    "UV_PYTHON",
    "UV_SYSTEM_PYTHON",
    "UV_CONFIG_FILE",
    "UV_NO_CONFIG",
    "UV_PROJECT",
    "UV_WORKING_DIR",
    "UV_NO_SOURCES",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "UV_CONSTRAINT_HASHES",
    "UV_REQUIRE_HASHES",
)


def absolute_settings(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """*settings* (a `[tool.uv]` table) with every relative path resolved against *folder*."""
    result = dict(settings)
    for key in _PATH_LISTS:
        if isinstance(result.get(key), list):
            result[key] = [absolute_location(place, folder) for place in result[key]]
    for key in ("index-url", "default-index"):
        if isinstance(result.get(key), str):
            result[key] = absolute_location(result[key], folder)
    if isinstance(result.get("extra-index-url"), list):
        result["extra-index-url"] = [
            absolute_location(place, folder) for place in result["extra-index-url"]
        ]
    if isinstance(result.get("index"), list):
        result["index"] = [_absolute_entry(entry, "url", folder) for entry in result["index"]]
    if isinstance(result.get("sources"), dict):
        result["sources"] = {
            name: _absolute_source(source, folder) for name, source in result["sources"].items()
        }
    for key in (
        "constraint-dependencies",
        "override-dependencies",
        "build-constraint-dependencies",
    ):
        if isinstance(result.get(key), list):
            result[key] = [absolute_requirement(text, folder) for text in result[key]]
    return result


def absolute_requirement(text: Any, folder: Path) -> Any:  # noqa: ANN401 - any TOML value may stand there
    """A requirement; where its direct reference is a relative path (`foo @ ./foo`, which uv takes), made absolute."""
    if not isinstance(text, str):
        return text
    match = re.fullmatch(r"(\s*[A-Za-z0-9._-]+\s*(?:\[[^]]*\])?\s*@\s*)(\.{1,2}/\S*)(.*)", text)
    return f"{match[1]}{(folder / match[2]).resolve().as_uri()}{match[3]}" if match else text


def absolute_location(place: Any, folder: Path) -> Any:  # noqa: ANN401 - any TOML value may stand there
    """A URL as it is, a path resolved against *folder*."""
    if not isinstance(place, str) or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", place) or not place:
        return place
    return str((folder / place).resolve())


def local_sources(settings: Mapping[str, Any]) -> set[str]:
    """Names of the packages that `[tool.uv.sources]` takes from a local folder or source archive."""
    sources = settings.get("sources")
    names = set()
    for name, source in sources.items() if isinstance(sources, dict) else ():
        entries = source if isinstance(source, list) else [source]
        paths = [
            entry["path"]
            for entry in entries
            if isinstance(entry, dict) and isinstance(entry.get("path"), str)
        ]
        if any(not path.endswith(".whl") for path in paths):
            names.add(str(canonicalize_name(name)))
    return names


def pinned_names(script: Script) -> set[str]:
    """Names in the script's `[tool.uv.sources]` that need more than uv's own care.

    uv heeds a source where the script itself asks for the package, and not where another package does: then one of
    the same name would be taken from any index.
    """
    sources = script.settings.get("sources")
    asked_for = {name_of(text) for text in script.dependencies if ";" not in text}
    return {
        str(canonicalize_name(name))
        for name, source in (sources.items() if isinstance(sources, dict) else ())
        for entry in (source if isinstance(source, list) else [source])
        if isinstance(entry, dict) and not entry.keys() & {"extra", "group", "workspace"}
    } - asked_for


_RELATIVE = re.compile(r"relative path without a working directory: \.\.?/")
"""Of `name @ ./folder`, which uv takes in projects only, and a build takes from the script's folder."""


def refuse_unreadable_settings(scripts: Iterable[Script], uv: str) -> None:
    """Raise InputError (exit 2) for every script whose `[tool.uv]` table uv cannot read; `uv run` refuses it too.

    In the project that a script is resolved as, uv only warns of a setting that it does not know, or of a value that it
    cannot read, and then leaves out the whole table: cut-off dates, indexes and all.
    """
    faults = []
    for script in scripts:
        found = _unreadable(script.path.resolve(), uv) if script.settings else None
        if found is None or _RELATIVE.search(found[1]):
            continue
        line, words = found
        named = re.search(r"[`\"]([^`\"]+)[`\"]", words)
        with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
            alone = Path(
                folder, "alone.py"
            )  # each setting alone, for uv often names the table only
            for key, value in script.settings.items():
                block = tomli_w.dumps({"tool": {"uv": {key: value}}})
                comments = "".join(f"# {text}".rstrip() + "\n" for text in block.splitlines())
                alone.write_text(f"# /// script\n{comments}# ///\n", encoding="utf-8")
                if _unreadable(alone, uv):
                    fault = f"uv cannot read `{printable(key)}` in [tool.uv]: {words}"
                    break
            else:
                key, fault = "", f"uv cannot read the metadata: {words}"
        faults.append((script, line, (key, named[1] if named else ""), fault))
    if faults:
        hint = "correct the table: `uv run` does not read it either, and a script has fewer settings than a project"
        raise metadata_error(faults, hint)


def _unreadable(path: Path, uv: str) -> tuple[int, str] | None:
    """Where in the block of the script at *path* (line from 0), and why, uv cannot read its metadata."""
    # With --frozen uv asks nobody and looks for no interpreter.
    command = [
        uv,
        "export",
        "--script",
        str(path),
        "--frozen",
        "--offline",
        "--no-config",
        "--color",
        "never",
    ]
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
        said = redact(
            run_uv(command, Path(folder), COLUMNS="9999").stderr
        )  # it breaks lines where a terminal ends
    found = re.match(r"error: TOML parse error at line (\d+), .*\n(?:[\d ]* \|.*\n)*(.*)", said)
    return (int(found[1]) - 1, printable(found[2])) if found else None


def refuse_forced_builds(script: Script, allows: Callable[[str], bool]) -> None:
    """Raise FetchError (exit 4) where the script or a configuration asks for builds that no flag allowed.

    uv lets `no-binary` win over `--only-binary :all:`, so it would run code of a source distribution while resolving.
    """
    places = [(str(script.path), dict(script.settings)), *_configurations()]
    places.append(("the environment (UV_NO_BINARY…)", _environment_settings()))
    own = local_sources(script.settings)
    problems, names = [], []
    for place, settings in places:
        forced = [name for name in _forced(settings) if name not in own and not allows(name)]
        names += forced
        problems += [
            f"{place} asks to build {'every package' if name == ':all:' else name} from source"
            for name in forced
        ]
    if problems:
        raise FetchError(
            "building from source is not allowed",
            problems=problems,
            hint="add " + " ".join(f"--allow-build {name}" for name in dict.fromkeys(names)),
        )


def index_locations(script_settings: Mapping[str, Any]) -> list[tuple[str | None, str]]:
    """(name, URL) of every index and find-links page in a script's settings, uv's configuration and its environment."""
    found: list[tuple[str | None, str]] = []
    for settings in (script_settings, *(table for _, table in _configurations())):
        found += [(entry.get("name"), entry["url"]) for entry in _index_entries(settings)]
        plain = [
            settings.get("index-url"),
            *_list(settings.get("extra-index-url")),
            *_list(settings.get("find-links")),
        ]
        found += [(None, url) for url in plain if isinstance(url, str)]
    for variable in (
        "UV_INDEX",
        "UV_DEFAULT_INDEX",
        "UV_INDEX_URL",
        "UV_EXTRA_INDEX_URL",
        "UV_FIND_LINKS",
    ):
        found += [
            split_index(word) for word in os.environ.get(variable, "").replace(",", " ").split()
        ]
    return found


def asks_keyring(scripts: Iterable[Script]) -> bool:
    """Whether uv is told to ask the `keyring` program for passwords."""
    values = [os.environ.get("UV_KEYRING_PROVIDER")]
    for settings in _all_settings(scripts):
        pip = settings.get("pip")
        values += [
            settings.get("keyring-provider"),
            pip.get("keyring-provider") if isinstance(pip, dict) else None,
        ]
    return next((value for value in values if value), None) == "subprocess"


def trust(scripts: Iterable[Script], insecure_hosts: Iterable[str]) -> Trust:
    """What uv is told about certificates: by flags (*insecure_hosts*), its environment, and its configuration."""
    hosts = [*insecure_hosts, *os.environ.get("UV_INSECURE_HOST", "").replace(",", " ").split()]
    told = [
        _is_true(os.environ.get("UV_SYSTEM_CERTS")) or _is_true(os.environ.get("UV_NATIVE_TLS"))
    ]
    for settings in _all_settings(scripts):
        hosts += [
            host for host in _list(settings.get("allow-insecure-host")) if isinstance(host, str)
        ]
        told += [settings.get(key) is True for key in ("system-certs", "native-tls")]
    return Trust(
        frozenset(re.sub(r"^\w+://", "", host).rstrip("/").lower() for host in hosts), any(told)
    )


def own_indexes(script_settings: Mapping[str, Any], folder: Path) -> list[tuple[str | None, str]]:
    """(name, URL) of a script's own indexes that may serve any package: explicit ones serve what is pinned to them."""
    entries = _index_entries(absolute_settings(script_settings, folder))
    return [(entry.get("name"), entry["url"]) for entry in entries if not entry.get("explicit")]


def split_index(text: str) -> tuple[str | None, str]:
    """`NAME=URL` or `URL`, as `--index` takes it."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+)=(.+)", text)
    return (match[1], match[2]) if match else (None, text)


def index_argument(text: str) -> str:
    """What the user gave for `--index`, as UV_INDEX takes it: a folder becomes a file:// URL, for spaces separate."""
    name, place = split_index(text)
    return f"{name}={find_links_argument(place)}" if name else find_links_argument(place)


def find_links_argument(place: str) -> str:
    """What the user gave for `--find-links`, as UV_FIND_LINKS takes it: commas separate there."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", place):
        place = Path(place).resolve().as_uri()
    return place.replace(" ", "%20").replace(",", "%2C")


def run_uv(
    command: Sequence[str], place: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run uv in the folder *place* with the environment that is made for it there, and these *variables* on top."""
    return subprocess.run(
        command,
        cwd=place,
        env={**_environment(place), **variables},
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        stdin=subprocess.DEVNULL,
        check=False,
    )


def _environment(place: Path) -> dict[str, str]:
    """The environment for `uv pip compile` in the folder *place*: the user's own, less what would override the flags.

    `UV_CONFIG_FILE` and `UV_NO_CONFIG` would also switch off the temporary project's `[tool.uv]`, that is the script's
    own settings; so the file is put where uv looks for the user's configuration instead.
    """
    result = {name: value for name, value in os.environ.items() if name not in _DROPPED} | {
        "PATH": keyring_path()
    }
    config_file, no_config = os.environ.get("UV_CONFIG_FILE"), os.environ.get("UV_NO_CONFIG")
    if config_file or no_config:
        folder = place / "configuration" / "uv"
        folder.mkdir(parents=True, exist_ok=True)
        if config_file:
            settings = absolute_settings(
                _read_toml(Path(config_file)), Path(config_file).resolve().parent
            )
            (folder / "uv.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
        result["XDG_CONFIG_HOME"] = str(folder.parent)
        result["UV_NO_SYSTEM_CONFIG"] = "1"
    return result


def _configurations() -> list[tuple[str, dict[str, Any]]]:
    """Uv's configuration files in force, with where they stand (https://docs.astral.sh/uv/concepts/configuration-files/)."""
    if os.environ.get("UV_CONFIG_FILE"):
        paths = [Path(os.environ["UV_CONFIG_FILE"])]
        if not paths[0].is_file():
            raise InputError(f"{paths[0]}: no such file", hint="UV_CONFIG_FILE names it")
    elif os.environ.get("UV_NO_CONFIG"):
        paths = []
    else:
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        system = [
            Path(folder)
            for folder in (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
            if folder
        ]
        candidates = [folder / "uv" / "uv.toml" for folder in system] + [Path("/etc/uv/uv.toml")]
        paths = [home / "uv" / "uv.toml"]
        paths += (
            []
            if os.environ.get("UV_NO_SYSTEM_CONFIG")
            else [path for path in candidates if path.is_file()][:1]
        )
    return [(str(path), _read_toml(path)) for path in paths if path.is_file()]


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        hint = "correct it: uv would not read it either"
        raise InputError(
            f"{path}: uv's configuration cannot be read: {error}", hint=hint
        ) from error


def _all_settings(scripts: Iterable[Script]) -> list[dict[str, Any]]:
    return [*(script.settings for script in scripts), *(table for _, table in _configurations())]


def _is_true(value: str | None) -> bool:
    return (value or "").lower() in {"1", "true", "yes", "on", "y", "t"}


def _environment_settings() -> dict[str, Any]:
    packages = os.environ.get("UV_NO_BINARY_PACKAGE", "").replace(",", " ").split()
    return {"no-binary": _is_true(os.environ.get("UV_NO_BINARY")), "no-binary-package": packages}


def name_of(requirement: str) -> str:
    """Give the normalised name that *requirement* (PEP 508) begins with; empty where it begins with none."""
    match = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    return str(canonicalize_name(match[1])) if match else ""


def _forced(settings: Mapping[str, Any]) -> Iterator[str]:
    """Names (or `:all:`) that *settings*, also their `[pip]` table, force to be built."""
    for table in (settings, settings.get("pip")):
        if not isinstance(table, dict):
            continue
        if table.get("no-binary") is True:
            yield ":all:"
        for name in [*_list(table.get("no-binary-package")), *_list(table.get("no-binary"))]:
            if isinstance(name, str) and name != ":none:":
                yield name if name == ":all:" else str(canonicalize_name(name))


def _absolute_source(source: Any, folder: Path) -> Any:  # noqa: ANN401 - any TOML value may stand there
    if isinstance(source, list):
        return [_absolute_source(entry, folder) for entry in source]
    if isinstance(source, dict):
        # In a bundle everything is a wheel: an editable source would only ask the backend for another kind of build.
        source = {key: value for key, value in source.items() if key != "editable"}
    return _absolute_entry(_absolute_entry(source, "path", folder), "url", folder)


def _absolute_entry(entry: Any, key: str, folder: Path) -> Any:  # noqa: ANN401 - any TOML value may stand there
    if isinstance(entry, dict) and isinstance(entry.get(key), str):
        return {**entry, key: absolute_location(entry[key], folder)}
    return entry


def _index_entries(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = _list(settings.get("index"))
    return [
        entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("url"), str)
    ]


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - any TOML value may stand there
    return value if isinstance(value, list) else []
