"""The command `sign`."""

from __future__ import annotations

from pathlib import Path

import click

from offline_bundle.wheelhouse.cli.kit.completers import complete_bundles
from offline_bundle.wheelhouse.cli.kit.options import PATH, quiet_option


@click.command("sign")
@click.argument("bundle", metavar="DIR", type=PATH, shell_complete=complete_bundles)
@click.argument("key", metavar="KEY")
@quiet_option
def sign_command(*, bundle: Path, key: str, quiet: bool) -> None:
    """Verify the bundle at DIR and sign it with the OpenSSH key KEY.

    KEY is the file of a private key, or of a public key whose private key is in ssh-agent or on a
    device.
    """
    from offline_bundle.wheelhouse.signing import sign

    path = sign(bundle, key)
    if not quiet:
        click.echo(f"{path}: signed, after checking every file.", err=True)
