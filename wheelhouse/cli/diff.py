"""The command `diff`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from offline_bundle.wheelhouse.cli.kit.completers import complete_packed
from offline_bundle.wheelhouse.cli.kit.options import PATH, json_option
from offline_bundle.wheelhouse.cli.kit.output import print_json, print_table
from offline_bundle.wheelhouse.runtime.sizes import count, format_size

if TYPE_CHECKING:
    from offline_bundle.wheelhouse.derived.diff import BundleDiff, GroupedChange, Names


@click.command("diff")
@click.argument("old", metavar="OLD", type=PATH, shell_complete=complete_packed)
@click.argument("new", metavar="NEW", type=PATH, shell_complete=complete_packed)
@json_option
def diff_command(*, old: Path, new: Path, as_json: bool) -> None:
    """Show the differences between the bundles OLD and NEW.

    Each is a bundle's folder, its bundle.json, or an archive.
    """
    from offline_bundle.wheelhouse.derived.diff import diff
    from offline_bundle.wheelhouse.transport.open import load_manifest

    changes = diff(load_manifest(old), load_manifest(new))
    if as_json:
        print_json(changes.to_json())
    else:
        _print_changes(changes)


def _print_changes(changes: BundleDiff) -> None:
    if changes.is_empty:
        click.echo("No differences.")
        return
    rows = [
        *_name_rows("script", changes.scripts),
        *_name_rows("target", changes.targets),
        # A changed lock is shown by its packages.
        *_name_rows("lock", dataclasses.replace(changes.locks, changed=())),
        *_name_rows("uv", changes.uv),
        *_name_rows("interpreter", changes.pythons),
    ]
    if rows:
        print_table(("kind", "name", "change"), rows)
        click.echo()
    if changes.packages:
        print_table(
            ("package", "change", "before", "now", "size", "in"),
            _package_rows(changes.grouped_packages),
            numbers={"size"},
        )
        click.echo()
    files = changes.files
    counts = f"{len(files.removed)} removed, {len(files.changed)} changed"
    sizes = f"{format_size(changes.old_size)} before, {format_size(changes.new_size)} now"
    click.echo(f"{count(len(files.added), 'file')} added, {counts}; {sizes}.")
    click.echo(f"Added and changed files have {format_size(changes.to_carry)}.")


def _name_rows(kind: str, names: Names) -> Iterator[tuple[str, str, str]]:
    for change in ("added", "removed", "changed"):
        for name in getattr(names, change):
            yield kind, name, change


def _package_rows(changes: Iterable[GroupedChange]) -> Iterator[tuple[str, ...]]:
    for change in changes:
        size = f"{'-' if change.growth < 0 else '+'}{format_size(abs(change.growth))}"
        locks = ", ".join(change.locks)
        yield change.name, change.kind, change.before, change.now, size, locks
