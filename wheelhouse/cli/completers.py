"""What a shell may complete words with: bundles, scripts, names in a bundle.

Each function is click's `shell_complete` callback, asked at every Tab. None of them raises: where there is nothing to
offer, the shell's own completion of files takes over, or nothing does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import click

    from offline_bundle.wheelhouse.runtime.manifest import Manifest


def complete_bundles(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Folders that are bundles; where there is none, any folder on the way to one."""
    del context, parameter
    return _paths(path for path in _matching(incomplete) if _is_bundle(path)) or [
        CompletionItem(incomplete, "dir")
    ]


def complete_packed(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Bundles and archives of them."""
    del context, parameter
    found = (path for path in _matching(incomplete) if _is_bundle(path) or path.suffix == ".tar")
    return _paths(found) or [CompletionItem(incomplete, "file")]


def complete_scripts(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Python files here, and the scripts in the bundle that was named before."""
    del parameter
    folder, manifest = _bundle(context)
    bundled = [folder / script.path for script in manifest.scripts.values()] if manifest else []
    here = [path for path in _matching(incomplete) if path.suffix == ".py"]
    found = [
        *here,
        *(path for path in bundled if str(path).startswith(incomplete) and path not in here),
    ]
    return _paths(found) or [CompletionItem(incomplete, "file")]


def complete_script_names(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of the scripts in the bundle that was named before."""
    del parameter
    _, manifest = _bundle(context)
    return _names(manifest.scripts if manifest else (), incomplete)


def complete_target_names(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of its targets."""
    del parameter
    _, manifest = _bundle(context)
    return _names(manifest.targets if manifest else (), incomplete)


def _bundle(context: click.Context) -> tuple[Path, Manifest | None]:
    """The bundle that the command line names so far, and its manifest if it can be read.

    While an option still waits for its value, click leaves the arguments before it in `args`.
    """
    from offline_bundle.wheelhouse.runtime.errors import BundleError  # noqa: PLC0415 - only at a Tab that needs it
    from offline_bundle.wheelhouse.runtime.manifest import read_manifest  # noqa: PLC0415 - the same

    named = [context.params.get("bundle"), *context.args]
    folder = next((Path(name) for name in named if name and _is_bundle(Path(name))), Path())
    try:
        return folder, read_manifest(folder)
    except (BundleError, OSError):
        return folder, None


def _is_bundle(path: Path) -> bool:
    return (path / "bundle.json").is_file()


def _matching(incomplete: str) -> Iterator[Path]:
    """Paths that go on from *incomplete*, as the user began them."""
    begun = Path(incomplete)
    folder, start = (
        (begun, "") if not incomplete or incomplete.endswith("/") else (begun.parent, begun.name)
    )
    try:
        yield from sorted(path for path in folder.iterdir() if path.name.startswith(start))
    except OSError:
        return


def _paths(paths: Iterable[Path]) -> list[CompletionItem]:
    return [CompletionItem(str(path)) for path in paths]


def _names(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
