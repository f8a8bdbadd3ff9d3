"""The contents of a bundle as text or JSON, for the command `show`."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from offline_bundle.wheelhouse.cli.kit.output import print_table
from offline_bundle.wheelhouse.runtime.sizes import count, format_size
from offline_bundle.wheelhouse.runtime.text import printable_lines

if TYPE_CHECKING:
    from pathlib import Path

    from offline_bundle.wheelhouse.store.contents import Contents, ShownLock


def show_contents(bundle: Path, *, as_json: bool) -> None:
    """Print the scripts, packages, uv and interpreters of a bundle or an archive."""
    from offline_bundle.wheelhouse.store.contents import contents
    from offline_bundle.wheelhouse.transport.open import load_manifest

    shown = contents(load_manifest(bundle))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(shown), indent=1))
        return
    size = f"{count(shown.files, 'file')}, {format_size(shown.size)}"
    click.echo(printable_lines(f"{bundle}: {size}, {shown.created_by}, as of {shown.timestamp}"))
    click.echo("The date is that of its newest package, or SOURCE_DATE_EPOCH; not of the build.")
    _print_locks(shown)
    _print_packages(shown)
    _print_programs(shown)


def _print_locks(shown: Contents) -> None:
    if not shown.locks:
        return
    rows = [
        (
            lock.script,
            lock.python,
            lock.platform,
            lock.libc or "any",
            f"{lock.packages}",
            format_size(lock.size),
            _ready_for(lock),
        )
        for lock in shown.locks
    ]
    titles = ("script", "Python", "platform", "libc from", "packages", "size", "ready for")
    click.echo()
    print_table(titles, rows, numbers={"packages", "size"})


def _print_packages(shown: Contents) -> None:
    if not shown.packages:
        return
    rows = [
        (
            package.name,
            package.version,
            format_size(package.size),
            str(package.publisher or "absent"),
            ", ".join(package.needed_by) or "unused",
        )
        for package in shown.packages
    ]
    click.echo()
    print_table(("package", "version", "size", "attested by", "needed by"), rows, numbers={"size"})


def _print_programs(shown: Contents) -> None:
    if shown.uv:
        click.echo()
        print_table(("uv for", "version"), shown.uv.items())
    if shown.pythons:
        click.echo()
        print_table(("interpreter for", "Python"), shown.pythons.items())


def _ready_for(lock: ShownLock) -> str:
    """Return what can start the script: always the launcher, uv and pip; then the extra formats."""
    cache = f" + UV_CACHE_DIR of uv {lock.cache}" if lock.cache else ""
    environment = " + environment in place" if lock.environment else ""
    return f"launcher, uv, pip{cache}{environment}"
