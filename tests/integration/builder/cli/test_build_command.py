"""`build --sign KEY`: signatures are valid, and a failure leaves the bundle unchanged."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.cli import cli, run_command_line
from tests.support.archives import tree
from tests.support.distributions import make_wheel
from tests.support.signing_cases import allowing, keys, public

if TYPE_CHECKING:
    from tests.support.index_server import IndexServer

__all__ = ["keys"]
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


class Signed:
    """A bundle that `build --sign` has made."""

    def __init__(self, folder: Path, index: IndexServer, key: Path) -> None:
        self.folder = folder
        self.index = index
        self.bundle = folder / "bundle"
        self.allowed = allowing(folder, f"{key.name} {public(key)}")
        assert self.build("leaf", "--sign", key) == 0

    def build(self, package: str, *options: object) -> int:
        script = self.folder / "job.py"
        script.write_text(
            f'# /// script\n# requires-python = "=={HERE}"\n# dependencies = ["{package}"]\n# ///\n'
        )
        return self.call(
            "build",
            script,
            "-o",
            self.bundle,
            "--default-index",
            self.index.url,
            "--no-uv",
            *options,
        )

    def verify(self) -> int:
        return self.call("verify", self.bundle, "--allowed-signers", self.allowed)

    @staticmethod
    def call(*words: object) -> int:
        return run_command_line(cli, [str(word) for word in words], "offline-bundle")


@pytest.fixture
def signed(tmp_path: Path, index: IndexServer, packages: Path, keys: Path) -> Signed:
    for name in ("leaf", "other"):
        make_wheel(packages, name)
    return Signed(tmp_path, index, keys / "alice")


def test_verify_accepts_what_build_signs(
    signed: Signed, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert signed.verify() == 0
    assert "alice" in capsys.readouterr().err
    before = tree(signed.bundle)
    assert signed.build("leaf", "--sign", keys / "alice") == 0
    assert tree(signed.bundle) == before
    assert (
        signed.build("other", "--sign", keys / "mallory") == 0
    )  # another manifest, signed by somebody else
    assert signed.verify() == 6
    assert signed.build("other", "--sign", keys / "alice") == 0
    assert signed.verify() == 0


def test_without_it_a_changed_bundle_is_unsigned_and_the_user_is_told(
    signed: Signed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert signed.build("leaf") == 0
    assert signed.verify() == 0  # nothing changed, so the signature is still good
    capsys.readouterr()
    assert signed.build("other") == 0
    assert "signature" in capsys.readouterr().err
    assert signed.verify() == 6


@pytest.mark.parametrize(
    ("trouble", "code", "told"),
    [
        ("no such key", 2, "no such key"),
        ("no ssh-keygen", 1, "ssh-keygen is not on PATH"),
        ("no key at all", 6, "could not sign with"),
        ("no passphrase", 6, "passphrase"),
    ],
)
def test_what_cannot_be_signed_is_told_and_leaves_the_bundle_as_it_was(  # noqa: PLR0917 -- pytest's fixtures
    signed: Signed,
    keys: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    trouble: str,
    code: int,
    told: str,
) -> None:
    before = tree(signed.bundle)
    key = {
        "no such key": tmp_path / "nowhere",
        "no key at all": Path(__file__),
        "no passphrase": keys / "sealed",
    }
    if trouble == "no ssh-keygen":
        monkeypatch.setenv("PATH", str(tmp_path))
    if trouble == "no passphrase":  # whoever is asked for it gives the wrong one
        askpass = tmp_path / "askpass"
        askpass.write_text("#!/bin/sh\necho wrong\n")
        askpass.chmod(0o755)
        monkeypatch.setenv("SSH_ASKPASS", str(askpass))
        monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    assert signed.build("other", "--sign", key.get(trouble, keys / "alice")) == code
    said = capfd.readouterr().err
    assert told in said
    assert "hint: " in said
    assert "Traceback" not in said
    monkeypatch.undo()
    assert tree(signed.bundle) == before
    assert signed.verify() == 0


def test_a_key_that_is_not_there_is_told_before_anything_is_asked_of_the_index(
    tmp_path: Path, index: IndexServer, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    script = tmp_path / "job.py"
    script.write_text(
        '# /// script\n# requires-python = ">=3.9"\n# dependencies = ["leaf"]\n# ///\n'
    )
    words = [
        "build",
        script,
        "-o",
        tmp_path / "b",
        "--default-index",
        index.url,
        "--sign",
        tmp_path / "nowhere",
    ]
    assert Signed.call(*words) == 2
    assert not index.requests_for("leaf")
    assert not (tmp_path / "b").exists()
