"""The options that other commands take over, and the command `sign`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from offline_bundle.cli import run_command_line
from offline_bundle.wheelhouse.cli.kit.options import sign_option, trust_options
from offline_bundle.wheelhouse.cli.sign import sign_command
from offline_bundle.wheelhouse.cli.verify import print_signer
from offline_bundle.wheelhouse.runtime.bundle.signatures import SignerPolicy
from tests.support.bundles import make_bundle
from tests.support.signing_cases import allowing, check_bundle_signature, make_key, public

if TYPE_CHECKING:
    import pytest


def test_sign_command_signs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    make_key(tmp_path / "alice")
    assert run_command_line(sign_command, [str(bundle), str(tmp_path / "alice")], "sign") == 0
    assert "signed, after checking every file" in capsys.readouterr().err
    signer = check_bundle_signature(
        bundle, SignerPolicy(allowing(tmp_path, f"alice {public(tmp_path / 'alice')}"))
    )
    print_signer(signer)
    assert "Signed by alice with ED25519 key SHA256:" in capsys.readouterr().err
    assert run_command_line(sign_command, [str(bundle), "nowhere"], "sign") == 2
    assert run_command_line(sign_command, [str(tmp_path), "nowhere"], "sign") == 2


@click.command()
@sign_option
@trust_options
def command(*, sign: str | None, trust: SignerPolicy | None) -> None:
    click.echo(f"{sign} {trust and vars(trust)}")


def test_shared_options_make_a_signer_policy(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(command, [], "command") == 0
    assert capsys.readouterr().out == "None None\n"
    arguments = [
        "--sign",
        "key",
        "--allowed-signers",
        "allowed",
        "--signer",
        "alice",
        "--revoked-keys",
        "revoked",
    ]
    assert run_command_line(command, arguments, "command") == 0
    assert (
        capsys.readouterr().out
        == f"key {vars(SignerPolicy(Path('allowed'), 'alice', Path('revoked')))}\n"
    )
    assert run_command_line(command, ["--signer", "alice"], "command") == 2
