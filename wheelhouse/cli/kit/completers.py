"""Shell completion of arguments: bundles, scripts, and names in a bundle.

The functions are `shell_complete` callbacks of click, called at every Tab. They never raise:
without a match, the shell completes file names, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    import click

    from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest


def complete_bundles(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete folders that are bundles; if none matches, any folder."""
    return _paths(path for path in _matching(incomplete) if _is_bundle(path)) or [
        CompletionItem(incomplete, "dir")
    ]


def complete_packed(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete bundles and archives."""
    paths = (path for path in _matching(incomplete) if _is_bundle(path) or path.suffix == ".tar")
    return _paths(paths) or [CompletionItem(incomplete, "file")]


def complete_scripts(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete Python files, and scripts in the bundle named before."""
    folder, manifest = _bundle(context)
    bundled = [folder / script.path for script in manifest.scripts.values()] if manifest else []
    here = [path for path in _matching(incomplete) if path.suffix == ".py"]
    paths = [
        *here,
        *(path for path in bundled if str(path).startswith(incomplete) and path not in here),
    ]
    return _paths(paths) or [CompletionItem(incomplete, "file")]


def complete_script_names(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of scripts in the bundle named before."""
    _, manifest = _bundle(context)
    return _names(manifest.scripts if manifest else (), incomplete)


def complete_target_names(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of targets in the bundle named before."""
    _, manifest = _bundle(context)
    return _names(manifest.targets if manifest else (), incomplete)


def _bundle(context: click.Context) -> tuple[Path, Manifest | None]:
    """Return the bundle named on the command line so far, and its manifest if it can be read.

    While an option has no value yet, click leaves the arguments before it in `args`.
    """
    from offline_bundle.wheelhouse.runtime.bundle.manifest import read_manifest
    from offline_bundle.wheelhouse.runtime.errors import BundleError

    arguments = [context.params.get("bundle"), *context.args]
    folder = next((Path(name) for name in arguments if name and _is_bundle(Path(name))), Path())
    try:
        return folder, read_manifest(folder)
    except (BundleError, OSError):
        return folder, None


def _is_bundle(path: Path) -> bool:
    return (path / "bundle.json").is_file()


def _matching(incomplete: str) -> Iterator[Path]:
    """Yield the paths that begin with *incomplete*, in the user's spelling."""
    path = Path(incomplete)
    is_folder = not incomplete or incomplete.endswith("/")
    folder, start = (path, "") if is_folder else (path.parent, path.name)
    try:
        yield from sorted(path for path in folder.iterdir() if path.name.startswith(start))
    except OSError:
        return


def _paths(paths: Iterable[Path]) -> list[CompletionItem]:
    return [CompletionItem(str(path)) for path in paths]


def _names(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
