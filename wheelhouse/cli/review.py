"""The commands `diff`, `prune` and `sign`, and the options by which others sign or check signatures."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from offline_bundle.wheelhouse.cli.completers import (
    complete_bundles,
    complete_packed,
    complete_script_names,
    complete_target_names,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from offline_bundle.wheelhouse.derived.diff import (
        BundleDiff,
        Names,
        PackageChange,
    )
    from offline_bundle.wheelhouse.runtime.signatures import Signer, SignerPolicy
    from offline_bundle.wheelhouse.store.prune import PruneReport

_PATH = click.Path(path_type=Path)
_Command = TypeVar("_Command", bound="Callable[..., Any]")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def sign_option(command: _Command) -> _Command:
    """Add `--sign KEY`: `sign: str | None`, for `signature.sign` and its kin."""
    text = "Sign with this OpenSSH key: a private key's file, or a public key's whose private one ssh-agent holds."
    return click.option("--sign", metavar="KEY", help=text)(command)


def trust_options(command: _Command) -> _Command:
    """Add the options that `trust_of` takes: `allowed_signers`, `signer`, `revoked_keys`."""
    options = [
        click.option(
            "--allowed-signers",
            type=_PATH,
            metavar="FILE",
            help="Demand a signature by somebody in FILE (ssh-keygen(1), ALLOWED SIGNERS).",
        ),
        click.option("--signer", metavar="NAME", help="Demand that it is this one of them."),
        click.option(
            "--revoked-keys", type=_PATH, metavar="FILE", help="Refuse keys listed in FILE."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def trust_of(
    allowed_signers: Path | None, signer: str | None, revoked_keys: Path | None
) -> SignerPolicy | None:
    """What `trust_options` ask for; None when they ask for no signature."""
    from offline_bundle.wheelhouse.runtime.signatures import SignerPolicy

    if allowed_signers is None:
        if signer or revoked_keys:
            raise click.UsageError("--signer and --revoked-keys need --allowed-signers")
        return None
    return SignerPolicy(allowed_signers, signer, revoked_keys)


def tell_signer(signer: Signer) -> None:
    """Say on stderr who signed."""
    click.echo(
        f"Signed by {signer.identity} with {signer.key_type} key {signer.fingerprint}.", err=True
    )


@click.command("sign")
@click.argument("bundle", metavar="DIR", type=_PATH, shell_complete=complete_bundles)
@click.argument("key", metavar="KEY")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def sign_command(*, bundle: Path, key: str, quiet: bool) -> None:
    """Verify the bundle at DIR and sign it with the OpenSSH key KEY.

    KEY is a private key's file, or a public key's whose private one ssh-agent or a device holds.
    """
    from offline_bundle.wheelhouse.signing import sign

    place = sign(bundle, key)
    if not quiet:
        click.echo(f"{place}: signed, after checking every file.", err=True)


@click.command("diff")
@click.argument("old", metavar="OLD", type=_PATH, shell_complete=complete_packed)
@click.argument("new", metavar="NEW", type=_PATH, shell_complete=complete_packed)
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
def diff_command(*, old: Path, new: Path, as_json: bool) -> None:
    """Show what differs between the bundles OLD and NEW.

    Each is a bundle's folder, its bundle.json, or an archive.
    """
    from offline_bundle.wheelhouse.derived.diff import diff
    from offline_bundle.wheelhouse.transport.open import load_manifest

    changes = diff(load_manifest(old), load_manifest(new))
    if as_json:
        click.echo(json.dumps(changes.to_json(), indent=1))
    else:
        _print_diff(changes)


@click.command("prune")
@click.argument("bundle", metavar="DIR", type=_PATH, shell_complete=complete_bundles)
@click.option(
    "--drop-script",
    "scripts",
    multiple=True,
    metavar="NAME",
    help="Leave out this script; repeatable.",
    shell_complete=complete_script_names,
)
@click.option(
    "--drop-target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="Leave out this target; repeatable.",
    shell_complete=complete_target_names,
)
@click.option(
    "--grace",
    default="1d",
    show_default=True,
    metavar="TIME",
    help="Keep what has become unneeded for this long, for jobs that are starting: 90m, 12h, 7d, or 0.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@sign_option
@click.option("--unsigned", is_flag=True, help="Let a signed bundle lose its signature.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
def prune_command(  # noqa: PLR0913
    *,
    bundle: Path,
    scripts: tuple[str, ...],
    targets: tuple[str, ...],
    grace: str,
    dry_run: bool,
    sign: str | None,
    unsigned: bool,
    as_json: bool,
) -> None:
    """Remove from the bundle at DIR what no script in it needs.

    Scripts and targets are dropped by name. Files that jobs may still hold stay for the grace period; prune again then.
    """
    from offline_bundle.wheelhouse.signing import signing_with
    from offline_bundle.wheelhouse.store.prune import prune

    report = prune(
        bundle,
        drop_scripts=scripts,
        drop_targets=targets,
        grace=_duration(grace),
        is_dry_run=dry_run,
        sign=signing_with(sign) if sign else None,
        allow_unsigned=unsigned,
    )
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report), indent=1))
    else:
        _tell_pruned(bundle, report)


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if match:
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    if text == "0":
        return timedelta()
    raise click.BadParameter(
        f"{text} is no time; write it like 90m, 12h, 7d, or 0", param_hint="--grace"
    )


def _tell_pruned(bundle: Path, report: PruneReport) -> None:
    from offline_bundle.wheelhouse.cli.output import (
        count,
        megabytes,
        print_table,
    )

    would = "would be " if report.is_dry_run else ""
    rows = [
        *(("script", name, f"{would}dropped") for name in report.scripts),
        *(("target", name, f"{would}dropped") for name in report.targets),
        *(("file", path, f"{would}removed") for path in report.removed),
        *(("file", path, f"unneeded, stays until {time}") for path, time in report.waiting.items()),
    ]
    if rows:
        print_table(("what", "name", "state"), rows)
    click.echo(
        f"{bundle}: {count(len(report.removed), 'file')} {would}removed, {megabytes(report.freed)}.",
        err=True,
    )
    if report.waiting:
        again = "; prune again then" if not report.is_dry_run else ""
        waiting = f"{count(len(report.waiting), 'file')} ({megabytes(report.waiting_size)})"
        click.echo(f"{waiting} stay for the grace period{again}.", err=True)


def _print_diff(changes: BundleDiff) -> None:
    from offline_bundle.wheelhouse.cli.output import (
        count,
        megabytes,
        print_table,
    )

    if changes.is_empty:
        click.echo("Both hold the same.")
        return
    named = [
        *_named("script", changes.scripts),
        *_named("target", changes.targets),
        *_named("lock", dataclasses.replace(changes.locks, changed=())),
        *_named("uv", changes.uv),
        *_named("interpreter", changes.pythons),
    ]
    if named:
        print_table(("what", "name", "change"), named)
        click.echo()
    if changes.packages:
        _print_packages(changes.packages)
        click.echo()
    files = changes.files
    click.echo(
        f"{count(len(files.added), 'file')} added, {len(files.removed)} removed, {len(files.changed)} changed; "
        f"{megabytes(changes.old_size)} before, {megabytes(changes.new_size)} now, "
        f"at most {megabytes(changes.to_carry)} to carry."
    )


def _named(noun: str, names: Names) -> Iterator[tuple[str, str, str]]:
    from offline_bundle.wheelhouse.runtime.paths import printable

    for kind, group in (
        ("added", names.added),
        ("removed", names.removed),
        ("changed", names.changed),
    ):
        for name in group:
            yield noun, printable(name), kind


def _print_packages(changes: Iterable[PackageChange]) -> None:
    from offline_bundle.wheelhouse.cli.output import megabytes, print_table
    from offline_bundle.wheelhouse.runtime.paths import printable

    groups: dict[tuple[str | None, ...], list[PackageChange]] = {}
    for change in sorted(changes, key=lambda change: (change.name, change.script, change.target)):
        key = (
            change.name,
            change.kind,
            change.old_version,
            change.new_version,
            f"{change.new_size - change.old_size}",
        )
        groups.setdefault(key, []).append(change)
    rows = []
    for (name, kind, before, now, growth), group in groups.items():
        size = int(growth or 0)
        locks = ", ".join(f"{change.script}/{change.target}" for change in group)
        cells = (
            name,
            kind,
            before,
            now,
            f"{'-' if size < 0 else '+'}{megabytes(abs(size))}",
            locks,
        )
        rows.append(tuple(printable(cell or "") for cell in cells))
    print_table(("package", "change", "before", "now", "size", "in"), rows, numbers={"size"})
