"""Check uv settings before a resolution: uv must read all of them, and none may force a build.

And find packages that come from folders and repositories.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
from packaging.utils import canonicalize_name

from offline_bundle.builder.fetch.credentials import redact
from offline_bundle.builder.inputs.scripts import Script, metadata_error
from offline_bundle.builder.inputs.uv_sources import (
    list_at,
    local_build_requirements,
    local_sources,
    source_entries,
)
from offline_bundle.builder.resolve.settings.uv_settings import (
    configurations,
    requirement_name,
    script_folder,
)
from offline_bundle.builder.resolve.uv_process import run_uv
from offline_bundle.wheelhouse.runtime.errors import FetchError
from offline_bundle.wheelhouse.runtime.text import printable

if TYPE_CHECKING:
    from packaging.pylock import Pylock


# uv's message for `name @ ./folder`, which it takes in projects only; a build resolves the path.
_RELATIVE = re.compile(r"relative path without a working directory: \.\.?/")


def check_settings_readable(scripts: Iterable[Script], uv: str) -> None:
    """Raise one InputError (exit 2) for all scripts whose `[tool.uv]` table uv cannot read.

    `uv run` refuses them too. In the temporary project that a script is resolved as, uv would only
    warn of an unknown setting, and ignore the whole table: cut-off dates, indexes and all.
    """
    faults = []
    for script in scripts:
        if not (script.settings and script.has_own_header):
            continue
        unreadable = _unreadable(script.path.resolve(), uv)
        if unreadable is None or _RELATIVE.search(unreadable[1]):
            continue
        line, message = unreadable
        quoted = re.search(r"[`\"]([^`\"]+)[`\"]", message)
        key = _unreadable_key(script, uv)
        subject = f"`{printable(key)}` in [tool.uv]" if key else "the metadata"
        problem = f"uv cannot read {subject}: {message}"
        faults.append((script, line, (key, quoted[1] if quoted else ""), problem))
    if faults:
        hint = (
            "correct the table: `uv run` cannot read it either; "
            "a script has fewer settings than a project"
        )
        raise metadata_error(faults, hint)


def check_no_forced_builds(script: Script, allows: Callable[[str], bool]) -> None:
    """Raise FetchError (exit 4) where settings force builds that no flag allows.

    uv lets `no-binary` win over `--only-binary :all:`, so it would run code of a source
    distribution while resolving.
    """
    tables = [(str(script.path), script.settings), *configurations(script_folder(script))]
    own = local_sources(script.settings)
    problems, names = [], []
    for where, settings in tables:
        forced = [name for name in _forced(settings) if name not in own and not allows(name)]
        names += forced
        problems += [
            f"{where} requires building {'every package' if name == ':all:' else name} from source"
            for name in forced
        ]
    if problems:
        raise FetchError(
            "building from source is not allowed",
            problems=problems,
            hint="add " + " ".join(f"--allow-build {name}" for name in dict.fromkeys(names)),
        )


def _unreadable_key(script: Script, uv: str) -> str:
    """Return the setting that uv cannot read alone: its own message often names only the table."""
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
        path = Path(folder, "alone.py")
        for key, value in script.settings.items():
            block = tomli_w.dumps({"tool": {"uv": {key: value}}})
            comments = "".join(f"# {text}".rstrip() + "\n" for text in block.splitlines())
            path.write_text(f"# /// script\n{comments}# ///\n", encoding="utf-8")
            if _unreadable(path, uv):
                return key
    return ""


def _unreadable(path: Path, uv: str) -> tuple[int, str] | None:
    """Return the line (from 0) in the script's block that uv cannot read, and why."""
    # --frozen: uv contacts no index and looks for no interpreter
    command = [uv, "export", "--script", str(path), "--frozen", "--offline", "--no-config"]
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
        # uv wraps the lines it quotes at COLUMNS
        outcome = run_uv([*command, "--color", "never"], Path(folder), COLUMNS="9999")
    message = redact(outcome.stderr)
    match = re.match(r"error: TOML parse error at line (\d+), .*\n(?:[\d ]* \|.*\n)*(.*)", message)
    return (int(match[1]) - 1, printable(match[2])) if match else None


def _forced(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield names (or `:all:`) that *settings* force to be built."""
    if settings.get("no-binary") is True:
        yield ":all:"
    for name in list_at(settings, "no-binary-package"):
        if isinstance(name, str):
            yield str(canonicalize_name(name))


def packages_from_elsewhere(script: Script, settings: Mapping[str, Any]) -> set[str]:
    """Return packages that the script takes from a git repository, a URL or a folder."""
    requirements = [*script.dependencies, *list_at(settings, "constraint-dependencies")]
    requirements += list_at(settings, "override-dependencies")
    names = {name for name, _ in source_entries(settings)}
    return names | {requirement_name(text) for text in requirements if "@" in text}


def local_packages(script: Script, settings: Mapping[str, object]) -> Iterator[str]:
    """Yield packages from local paths: the user's own code may be built without a flag."""
    for name, folder in local_sources(settings).items():
        yield name
        yield from local_build_requirements(Path(folder))
    for text in script.dependencies:
        name, _, url = text.partition("@")
        if url.strip().startswith(("file:", ".", "/")):
            yield requirement_name(name)


def packages_at_source(settings: Mapping[str, Any], lock: Pylock) -> set[str]:
    """Return packages in *lock* that another package takes from the script's folder for it.

    A pin would conflict with an editable one, as members of workspaces are.
    """
    sources = local_sources(settings)
    return {
        str(package.name)
        for package in lock.packages
        if package.directory and package.directory.path == sources.get(str(package.name))
    }
