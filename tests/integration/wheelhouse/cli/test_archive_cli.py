from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.cli.pack import pack_command
from offline_bundle.wheelhouse.cli.unpack import unpack_command
from offline_bundle.wheelhouse.cli.verify import verify_command
from tests.support.archives import no_fsync, put_bundle, tree
from tests.support.signing_cases import allowing, make_key, public

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

from tests.support.archive_cli_cases import bundle, call

__all__ = ["bundle", "no_fsync"]


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
