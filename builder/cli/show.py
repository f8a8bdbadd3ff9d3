"""The command `show`: the contents of a bundle, and keys for CI caches."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path

import click

from offline_bundle.wheelhouse.cli.kit.completers import complete_packed
from offline_bundle.wheelhouse.cli.kit.options import json_option, trusted_root_option
from offline_bundle.wheelhouse.runtime.names import MANIFEST


@click.command("show", context_settings={"ignore_unknown_options": True})
@click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="DIR|ARCHIVE",
    type=click.UNPROCESSED,
    shell_complete=complete_packed,
)
@json_option
@trusted_root_option
@click.option(
    "--key",
    "is_key",
    is_flag=True,
    help="Print a key for CI caches: of the bundle, or of the bundle that would be built with "
    "SCRIPTs and options of `build` in place of DIR.",
)
def show_command(
    *, words: tuple[str, ...], as_json: bool, trusted_root: Path | None, is_key: bool
) -> int:
    """Show the contents of a bundle or an archive: scripts, targets, packages, sizes.

    With --key, before a build and without a network: `show --key SCRIPT... [BUILD OPTIONS]`.
    """
    from offline_bundle.wheelhouse.cli.show import show_contents

    if is_key:
        key = _key(words)
        click.echo(json.dumps({"key": key}) if as_json else key)
        return 0
    if unknown := [text for text in words if text.startswith("-")]:
        similar = get_close_matches(unknown[0], ("--json", "--key", "--trusted-root"))
        raise click.NoSuchOption(unknown[0], possibilities=similar)
    if len(words) != 1:
        raise click.UsageError("name one bundle")
    return show_contents(Path(words[0]), trusted_root=trusted_root, as_json=as_json)


def _key(arguments: tuple[str, ...]) -> str:
    from offline_bundle.wheelhouse.cli.kit.settings import Defaults
    from offline_bundle.wheelhouse.derived.inventories import contents_key
    from offline_bundle.wheelhouse.transport.open import load_manifest

    if len(arguments) == 1 and not _has_scripts(arguments[0]):
        return contents_key(load_manifest(Path(arguments[0])))
    from offline_bundle.builder.cache_key import cache_key
    from offline_bundle.builder.cli.build import build_command
    from offline_bundle.builder.cli.ci_options import reporting_to_ci

    line = [*arguments, "--output", "."]
    defaults = Defaults("build")  # as for `build`: they are part of what it would do
    parameters = build_command.make_context("show --key", line, default_map=defaults).params
    scripts: tuple[Path, ...] = parameters["scripts"]
    with reporting_to_ci(scripts, parameters["annotations"], parameters["sarif"]):
        return cache_key(scripts, parameters)


def _has_scripts(argument: str) -> bool:
    """Return whether *argument* is a script, or a folder or pattern of scripts; else a bundle."""
    path = Path(argument)
    is_folder = path.is_dir() and not (path / MANIFEST).exists()
    return is_folder or path.suffix in {".py", ".ipynb"}
