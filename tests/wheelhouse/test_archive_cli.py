from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from offline_bundle.cli import run_command_line
from offline_bundle.wheelhouse.cli.pack import pack_command
from offline_bundle.wheelhouse.cli.unpack import unpack_command
from offline_bundle.wheelhouse.cli.verify import verify_command
from tests.support.archives import no_fsync, put_bundle, tree
from tests.wheelhouse.test_signature import allowing, make_key, public

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import click

__all__ = ["no_fsync"]


def call(command: click.Command, *arguments: object) -> int:
    return run_command_line(command, [str(argument) for argument in arguments], "offline-bundle")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return put_bundle(tmp_path / "bundle")


def test_pack_verify_and_unpack(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "b.tar"
    assert call(pack_command, bundle, "-o", archive) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert f"  {archive}\n" in said.err
    assert "16 files" in said.err
    assert call(verify_command, archive, "-v") == 0
    assert "all match the manifest" in capsys.readouterr().err
    assert call(unpack_command, archive, "-o", tmp_path / "copy") == 0
    assert "b.tar: unpacked to" in capsys.readouterr().err
    assert call(unpack_command, archive, "-o", tmp_path / "copy") == 0
    assert "already in" in capsys.readouterr().err
    assert tree(tmp_path / "copy") == tree(bundle)


def test_json_has_the_same_results(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "b.tar"
    assert call(pack_command, bundle, "-o", archive, "--split-size", "64k", "--json") == 0
    packed = json.loads(capsys.readouterr().out)
    assert packed["files"] == [
        str(tmp_path / name) for name in ("b.tar.001", "b.tar.parts.sha256", "b.tar.unpack.py")
    ]
    assert packed["size"] == (tmp_path / "b.tar.001").stat().st_size
    assert call(unpack_command, tmp_path / "b.tar.001", "-o", tmp_path / "copy", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "bundle": str(tmp_path / "copy"),
        "archives": [{"archive": "b.tar", "relation": "new", "changed": True, "unsigned": False}],
    }
    assert call(verify_command, tmp_path / "b.tar.001", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_quiet_prints_nothing(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(pack_command, bundle, "-o", tmp_path / "b.tar", "-q") == 0
    assert call(unpack_command, tmp_path / "b.tar", "-o", tmp_path / "copy", "-q") == 0
    assert capsys.readouterr() == ("", "")


def test_damage_is_exit_5_with_names(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "b.tar"
    assert call(pack_command, bundle, "-o", archive) == 0
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b"print('run')", b"print('RUN')"))
    assert call(verify_command, archive) == 5
    assert call(unpack_command, archive, "-o", tmp_path / "copy") == 5
    said = capsys.readouterr().err
    assert said.count("run.py: ") == 1
    assert "changed: run.py" in said
    assert "hint: " in said
    assert call(unpack_command, archive, "-o", tmp_path / "copy", "--json") == 5
    assert json.loads(capsys.readouterr().out)["error"]["code"] == 5


@pytest.mark.parametrize("arguments", [["x.tar"], ["-o", "x"], []])
def test_bad_usage_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(unpack_command, *arguments) == 2
    assert capsys.readouterr().err


def test_an_invalid_size_is_exit_2(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(pack_command, bundle, "-o", tmp_path / "b.tar", "--split-size", "big") == 2
    assert "is not a size" in capsys.readouterr().err


def test_a_removed_signature_is_reported(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bundle / "bundle.json.sig").write_bytes(b"signature")
    other = put_bundle(tmp_path / "other", {"plot": {"gamma": "1.0"}})
    for source in (bundle, other):
        assert call(pack_command, source, "-o", tmp_path / f"{source.name}.tar", "-q") == 0
        assert call(unpack_command, tmp_path / f"{source.name}.tar", "-o", tmp_path / "live") == 0
    assert "the signature of" in capsys.readouterr().err


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A public key whose private one is nowhere but in a running ssh-agent."""
    make_key(tmp_path / "alice")
    socket = str(tmp_path / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it listens now
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        subprocess.run(["ssh-add", "-q", tmp_path / "alice"], check=True)
        (tmp_path / "alice").unlink()
        yield tmp_path / "alice.pub"
        process.terminate()


def test_pack_signs_with_a_key_in_an_agent(
    bundle: Path, agent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, live = tmp_path / "b.tar", tmp_path / "live"
    allowed = allowing(tmp_path, f"alice {public(agent)}")
    assert call(pack_command, bundle, "-o", archive, "--sign", agent) == 0
    trust = ["--allowed-signers", allowed, "--signer", "alice"]
    capsys.readouterr()
    assert call(verify_command, archive, *trust) == 0
    assert "Signed by alice with ED25519 key SHA256:" in capsys.readouterr().err
    assert call(unpack_command, archive, "-o", live, *trust) == 0
    assert call(verify_command, live, *trust) == 0
    assert call(verify_command, live, "--allowed-signers", allowed, "--signer", "bob") == 6
    assert "alice" in capsys.readouterr().err


FAULTS = {
    "absent": "not signed",
    "garbled": "wrong signature",
    "expired": "expired",
    "not allowed": "not allowed",
    "modified": "modified after signing",
    "of somebody else": "signed by mallory",
}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("way", ["options", "policy"])
def test_each_fault_of_a_signature_is_exit_6_with_its_own_message(  # noqa: PLR0917 -- fixtures
    bundle: Path,
    tmp_path: Path,
    kind: str,
    way: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive = tmp_path / "b.tar"
    for name in ("alice", "mallory"):
        make_key(tmp_path / name)
    key = tmp_path / ("mallory" if kind in {"not allowed", "of somebody else"} else "alice")
    options = 'valid-before="20200101" ' if kind == "expired" else ""
    lines = [f"alice {options}{public(tmp_path / 'alice')}"]
    lines += [f"mallory {public(tmp_path / 'mallory')}"] if kind == "of somebody else" else []
    allowed = allowing(tmp_path, *lines)
    assert (
        call(pack_command, bundle, "-o", archive, *([] if kind == "absent" else ["--sign", key]))
        == 0
    )
    signature = bundle / "bundle.json.sig"
    if kind == "modified":
        before = signature.read_bytes()
        put_bundle(bundle, {"eval": {"alpha": "6.6"}})
        signature.write_bytes(before)
    elif kind == "garbled":
        signature.write_bytes(b"\n".join(signature.read_bytes().splitlines()[:2]))
    assert call(pack_command, bundle, "-o", archive) == 0
    if way == "policy":
        (tmp_path / "policy.json").write_text(
            '{"allowed-signers": "allowed_signers", "signer": "alice"}'
        )
        monkeypatch.setenv("OFFLINE_BUNDLE_POLICY", str(tmp_path / "policy.json"))
    trust = ["--allowed-signers", allowed, "--signer", "alice"] if way == "options" else []
    live = put_bundle(tmp_path / "live", {"other": {"zeta": "1.0"}})
    in_place = tree(live)
    capsys.readouterr()
    for command, *arguments in (
        (verify_command, bundle),
        (verify_command, archive),
        (unpack_command, archive, "-o", tmp_path / "new"),
        (unpack_command, archive, "-o", live),
    ):
        assert call(command, *arguments, *trust) == 6
        said = capsys.readouterr().err
        assert FAULTS[kind] in said
        assert "hint: " in said
    assert not (tmp_path / "new").exists()
    assert tree(live) == in_place
    assert [path.name for path in (live / ".writer").iterdir()] == ["lock"]
