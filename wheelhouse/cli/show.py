"""The contents of a bundle as text or JSON, for the command `show`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from offline_bundle.wheelhouse.cli.kit.output import error_document, print_json, print_table
from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from offline_bundle.wheelhouse.runtime.sizes import count, format_size
from offline_bundle.wheelhouse.runtime.text import printable_lines

if TYPE_CHECKING:
    from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
    from offline_bundle.wheelhouse.store.contents import Contents, ShownLock


def show_contents(bundle: Path, *, trusted_root: Path | None, as_json: bool) -> int:
    """Print the scripts, packages, uv and interpreters of a bundle or an archive.

    Returns the exit code; raises IntegrityError if an attestation does not hold.
    """
    from offline_bundle.wheelhouse.store.contents import contents
    from offline_bundle.wheelhouse.transport.open import count_left_out, load_manifest

    manifest = load_manifest(bundle)
    left_out = count_left_out(bundle)
    states, error = _attestations(bundle, manifest, trusted_root)
    shown = contents(manifest, states)
    if as_json:
        document = {**dataclasses.asdict(shown), "left_out": left_out}
        print_json({**document, **error_document(error)})
        return error.exit_code if error else 0
    _print_contents(bundle, shown, left_out)
    if error:
        raise error
    return 0


def _attestations(
    bundle: Path, manifest: Manifest, trusted_root: Path | None
) -> tuple[dict[str, str], IntegrityError | None]:
    """Verify the attestations; return the state of each wheel, and the error if one is wrong."""
    if not any(file.publisher for file in manifest.files.values()):
        return {}, None
    from offline_bundle.wheelhouse.audit.provenance import check_provenance, verify_where_possible
    from offline_bundle.wheelhouse.audit.subject import reader_of

    provenance = verify_where_possible(manifest, reader_of(bundle), trusted_root)
    states = {path: provenance.state(path) for path in manifest.files}
    try:
        check_provenance(provenance, manifest, frozenset(), str(bundle))
    except IntegrityError as error:
        return states, error
    return states, None


def _print_contents(bundle: Path, shown: Contents, left_out: int) -> None:
    size = f"{count(shown.files, 'file')}, {format_size(shown.size)}"
    click.echo(printable_lines(f"{bundle}: {size}, {shown.created_by}, as of {shown.timestamp}"))
    click.echo("The date is that of its newest package, or SOURCE_DATE_EPOCH; not of the build.")
    if left_out:
        click.echo(f"The archive is a difference: {count(left_out, 'file')} left out.")
    for titles, rows in _tables(bundle, shown):
        if rows:
            click.echo()
            print_table(titles, rows, numbers={"packages", "size"})


def _tables(
    bundle: Path, shown: Contents
) -> Iterator[tuple[Sequence[str], Sequence[Sequence[str]]]]:
    """Yield titles and rows of each table, which may have none."""
    yield (
        ("script", "Python", "platform", "libc from", "packages", "size", "ready for"),
        [
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
        ],
    )
    yield (
        ("package", "version", "size", "attestation", "needed by"),
        [
            (
                package.name,
                package.version,
                format_size(package.size),
                f"{package.attestation}: {package.publisher}" if package.publisher else "absent",
                ", ".join(package.needed_by) or "unused",
            )
            for package in shown.packages
        ],
    )
    yield ("uv for", "version"), list(shown.uv.items())
    yield ("interpreter for", "Python"), list(shown.pythons.items())
    yield ("data", "size"), [(name, format_size(size)) for name, size in shown.data.items()]
    scripts: dict[str, list[str]] = {}
    for lock in shown.locks:
        if lock.image:
            scripts.setdefault(str(bundle.absolute() / lock.image), []).append(lock.script)
    yield ("image", "of"), [(path, ", ".join(names)) for path, names in sorted(scripts.items())]


def _ready_for(lock: ShownLock) -> str:
    """Return what can start the script: always the launcher, uv and pip; then the extra formats."""
    cache = f" + UV_CACHE_DIR of uv {lock.cache}" if lock.cache else ""
    environment = " + environment in place" if lock.environment else ""
    image = " + image" if lock.image else ""
    return f"launcher, uv, pip{cache}{environment}{image}"
