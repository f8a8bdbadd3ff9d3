from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.wheelhouse import signing
from offline_bundle.wheelhouse.runtime.bundle.signatures import SignerPolicy, read_signature
from offline_bundle.wheelhouse.runtime.errors import InputError, IntegrityError, SignatureError
from offline_bundle.wheelhouse.runtime.names import MANIFEST, SIGNATURE
from offline_bundle.wheelhouse.signing import check_manifest_signature, sign, signing_with
from offline_bundle.wheelhouse.store.verify import raise_for_problems, verify
from tests.support.bundles import make_bundle
from tests.support.signing_cases import allowing, check_bundle_signature, keys, public

if TYPE_CHECKING:
    from offline_bundle.wheelhouse.store.verify import VerifyReport

__all__ = ["keys"]


ROOT = Path(__file__).parents[3]


LONG_AGO, SOME_DAY = "20200101", "29990101"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def refusal(bundle: Path, trust: SignerPolicy) -> str:
    with pytest.raises(SignatureError) as caught:
        check_bundle_signature(bundle, trust)
    assert caught.value.exit_code == 6
    assert caught.value.hint
    return caught.value.message


class TestSigning:
    def test_ssh_keygen_accepts_the_signature(
        self, bundle: Path, keys: Path, tmp_path: Path
    ) -> None:
        signature = sign(bundle, str(keys / "alice"))
        allowed = allowing(tmp_path, f"alice {public(keys / 'alice')}")
        command = [
            "ssh-keygen",
            "-Y",
            "verify",
            "-n",
            "offline-bundle",
            "-I",
            "alice",
            "-f",
            allowed,
            "-s",
            signature,
        ]
        with (bundle / "bundle.json").open("rb") as manifest:
            subprocess.run(command, stdin=manifest, check=True)
        assert verify(bundle).ok

    def test_check_returns_the_signer(self, bundle: Path, keys: Path, tmp_path: Path) -> None:
        sign(bundle, str(keys / "alice"))
        signer = check_bundle_signature(
            bundle, SignerPolicy(allowing(tmp_path, f"alice {public(keys / 'alice')}"))
        )
        listed = subprocess.check_output(
            ["ssh-keygen", "-l", "-f", keys / "alice.pub"], text=True
        ).split()
        assert (signer.identity, signer.key_type, signer.fingerprint) == (
            "alice",
            "ED25519",
            listed[1],
        )

    def test_signing_twice_gives_the_same_bytes(self, bundle: Path, keys: Path) -> None:
        first = sign(bundle, str(keys / "alice")).read_bytes()
        assert sign(bundle, str(keys / "alice")).read_bytes() == first

    def test_agent_signs_for_a_public_key(
        self, bundle: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        socket = tmp_path / "agent"
        with subprocess.Popen(
            ["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL
        ) as agent:
            try:
                while not socket.exists():
                    assert agent.poll() is None
                monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
                subprocess.run(["ssh-add", "-q", keys / "alice"], check=True, capture_output=True)
                only_public = shutil.copy(keys / "alice.pub", tmp_path / "elsewhere.pub")
                sign(bundle, only_public)
            finally:
                agent.terminate()
        assert (
            check_bundle_signature(
                bundle, SignerPolicy(allowing(tmp_path, f"alice {public(keys / 'alice')}"))
            ).identity
            == "alice"
        )

    def test_ssh_keygen_prompts_for_the_passphrase(self, keys: Path) -> None:
        child, terminal = pty.fork()
        if child == 0:  # a process of its own, with a terminal of its own
            code = 1
            try:
                code = 0 if b"SSH SIGNATURE" in signing_with(str(keys / "sealed"))(b"{}") else 2
            finally:
                os._exit(code)
        said = b""
        while b"passphrase" not in said:
            said += os.read(terminal, 1024)
        os.write(terminal, b"right\n")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        os.close(terminal)

    def test_without_a_terminal_a_passphrase_is_a_clear_error(
        self, bundle: Path, keys: Path
    ) -> None:
        code = (
            "import sys, pathlib, offline_bundle.wheelhouse.signing as s; "
            "s.sign(pathlib.Path(sys.argv[1]), sys.argv[2])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, bundle, keys / "sealed"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            check=False,
        )
        assert "could not sign with" in done.stderr
        assert "incorrect passphrase" in done.stderr
        assert not (bundle / SIGNATURE).exists()

    def test_missing_key_is_an_input_error(self, bundle: Path) -> None:
        with pytest.raises(InputError, match="no such key: nowhere"):
            sign(bundle, "nowhere")

    def test_public_key_without_an_agent_is_an_error(
        self, bundle: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        with pytest.raises(SignatureError, match="could not sign") as caught:
            sign(bundle, shutil.copy(keys / "alice.pub", tmp_path / "only.pub"))
        assert "ssh-add" in (caught.value.hint or "")

    def test_damaged_bundle_is_not_signed(self, bundle: Path, keys: Path) -> None:
        next((bundle / "wheels").iterdir()).write_bytes(b"other")
        with pytest.raises(IntegrityError):
            sign(bundle, str(keys / "alice"))
        assert not (bundle / SIGNATURE).exists()

    def test_what_was_verified_is_signed(
        self, bundle: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another user may replace the manifest between the check and the signature."""
        verified = (bundle / MANIFEST).read_bytes()

        def verify_then_replace(directory: Path, **options: Any) -> VerifyReport:  # noqa: ANN401
            report = verify(directory, **options)
            (bundle / MANIFEST).write_bytes(verified.replace(b'"alpha"', b'"omega"'))
            return report

        monkeypatch.setattr(signing, "verify", verify_then_replace)
        sign(bundle, str(keys / "alice"))
        trust = SignerPolicy(allowing(tmp_path, f"alice {public(keys / 'alice')}"))
        assert "modified" in refusal(bundle, trust)
        signature = read_signature(str(bundle))
        assert check_manifest_signature(verified, signature, trust).identity == "alice"

    def test_missing_ssh_keygen_is_reported(
        self, bundle: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sign(bundle, str(keys / "alice"))
        trust = SignerPolicy(allowing(tmp_path, f"alice {public(keys / 'alice')}"))
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(Exception, match="ssh-keygen is not on PATH"):
            sign(bundle, str(keys / "alice"))
        assert "ssh-keygen is not on PATH" in refusal(bundle, trust)


class TestChecking:
    @pytest.fixture
    def signed(self, bundle: Path, keys: Path) -> Path:
        sign(bundle, str(keys / "alice"))
        return bundle

    @pytest.fixture
    def allowed(self, keys: Path, tmp_path: Path) -> SignerPolicy:
        return SignerPolicy(allowing(tmp_path, f"alice {public(keys / 'alice')}"))

    def test_absent(self, bundle: Path, allowed: SignerPolicy) -> None:
        assert "not signed: there is no bundle.json.sig" in refusal(bundle, allowed)

    @pytest.mark.parametrize(
        "content", [b"", b"junk\n", b"-----BEGIN SSH SIGNATURE-----\nAAAA\n", b"\0" * 70000]
    )
    def test_garbled(self, signed: Path, allowed: SignerPolicy, content: bytes) -> None:
        (signed / SIGNATURE).write_bytes(content)
        assert "wrong signature" in refusal(signed, allowed)

    def test_truncated_or_changed_signature_is_rejected(
        self, signed: Path, allowed: SignerPolicy
    ) -> None:
        whole = (signed / SIGNATURE).read_bytes()
        for at in range(0, len(whole) - 1, 23):
            (signed / SIGNATURE).write_bytes(whole[:at])
            assert "wrong signature" in refusal(signed, allowed)
            (signed / SIGNATURE).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with suppress(
                SignatureError
            ):  # accepted: a line break or padding changed, and not what it encodes
                check_bundle_signature(signed, allowed)

    @pytest.mark.parametrize("make", ["fifo", "link", "folder"])
    def test_other_kinds_of_file_are_rejected(
        self, signed: Path, allowed: SignerPolicy, make: str
    ) -> None:
        place = signed / SIGNATURE
        place.unlink()
        {"fifo": os.mkfifo, "link": lambda p: p.symlink_to(__file__), "folder": Path.mkdir}[make](
            place
        )  # type: ignore[operator]
        assert "wrong signature" in refusal(signed, allowed)

    def test_made_for_another_purpose(
        self, bundle: Path, keys: Path, allowed: SignerPolicy
    ) -> None:
        subprocess.run(
            [
                "ssh-keygen",
                "-q",
                "-Y",
                "sign",
                "-n",
                "git",
                "-f",
                keys / "alice",
                bundle / "bundle.json",
            ],
            check=True,
        )
        assert "wrong signature: it was made for another purpose" in refusal(bundle, allowed)

    def test_modified_after_signing(self, signed: Path, allowed: SignerPolicy) -> None:
        with (signed / "bundle.json").open("ab") as manifest:
            manifest.write(b" ")
        assert "modified after signing" in refusal(signed, allowed)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (f'valid-before="{LONG_AGO}"', "expired"),
            (f'valid-after="{SOME_DAY}"', "not yet valid"),
            ('namespaces="git,file"', "not allowed"),
        ],
    )
    def test_allowed_key_that_may_not_sign_this_now(
        self, signed: Path, keys: Path, options: str, said: str
    ) -> None:
        path = allowing(signed.parent, f"alice {options} {public(keys / 'alice')}")
        for signer in (None, "alice"):
            assert said in refusal(signed, SignerPolicy(path, signer))

    def test_within_its_validity_and_namespace(
        self, signed: Path, keys: Path, tmp_path: Path
    ) -> None:
        options = f'namespaces="offline-bundle",valid-after="{LONG_AGO}",valid-before="{SOME_DAY}"'
        path = allowing(tmp_path, f"alice {options} {public(keys / 'alice')}")
        assert check_bundle_signature(signed, SignerPolicy(path)).identity == "alice"

    def test_unknown_key(self, bundle: Path, keys: Path, allowed: SignerPolicy) -> None:
        sign(bundle, str(keys / "mallory"))
        message = refusal(bundle, allowed)
        assert "not allowed" in message
        assert "ED25519 key SHA256:" in message

    def test_allowed_key_of_another_signer_is_rejected(
        self, signed: Path, allowed: SignerPolicy
    ) -> None:
        assert "signed by alice, not by bob" in refusal(
            signed, SignerPolicy(allowed.allowed, "bob")
        )

    def test_signer_may_be_on_a_later_line(self, signed: Path, keys: Path, tmp_path: Path) -> None:
        key = public(keys / "alice")
        path = allowing(tmp_path, f"alice {key}", f"release@example.org {key}")
        assert (
            check_bundle_signature(signed, SignerPolicy(path, "release@example.org")).identity
            == "release@example.org"
        )

    def test_revoked_key(self, signed: Path, keys: Path, allowed: SignerPolicy) -> None:
        revoked = SignerPolicy(allowed.allowed, revoked=keys / "alice.pub")
        assert "revoked" in refusal(signed, revoked)
        other = SignerPolicy(allowed.allowed, revoked=keys / "mallory.pub")
        assert check_bundle_signature(signed, other).identity == "alice"

    def test_no_allowed_signers_file(self, signed: Path) -> None:
        with pytest.raises(InputError, match="no such file"):
            check_bundle_signature(signed, SignerPolicy(Path("nowhere")))

    def test_empty_or_garbled_allowed_signers(self, signed: Path, tmp_path: Path) -> None:
        for lines in ([], ["garbage"], ["alice not-a-key AAAA"]):
            assert "not allowed" in refusal(signed, SignerPolicy(allowing(tmp_path, *lines)))

    def test_ssh_keygen_of_before_8_2(
        self, signed: Path, allowed: SignerPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = tmp_path / "bin" / "ssh-keygen"
        old.parent.mkdir()
        old.write_text("#!/bin/sh\necho 'ssh-keygen: illegal option -- Y' >&2\nexit 1\n")
        old.chmod(0o755)
        monkeypatch.setenv("PATH", f"{old.parent}:{os.environ['PATH']}")
        assert "is too old" in refusal(signed, allowed)

    def test_files_of_an_interrupted_update_are_problems(self, signed: Path) -> None:
        journal = signed / ".writer" / "pending.json"
        journal.parent.mkdir(exist_ok=True)
        document = (
            (signed / "bundle.json")
            .read_text()
            .replace('"files": {', '"files": {"planted.py": {"sha256": "%s", "size": 0},')
        )
        journal.write_text(
            document % "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        )
        (signed / "planted.py").touch()
        report = verify(signed)
        assert report.is_interrupted
        with pytest.raises(
            IntegrityError, match="an update of the bundle was interrupted"
        ) as caught:
            raise_for_problems(report)
        assert caught.value.problems == ("pending: planted.py",)

    def test_two_signatures_are_valid_during_a_commit(
        self, bundle: Path, keys: Path, allowed: SignerPolicy
    ) -> None:
        """As `unpack.install` has it: one after the other in one file."""
        before = (bundle / "bundle.json").read_bytes()
        after = before + b"\n"
        (bundle / SIGNATURE).write_bytes(
            b"".join(signing_with(str(keys / "alice"))(one) for one in (before, after))
        )
        for content in (before, after):
            signature = read_signature(str(bundle))
            assert check_manifest_signature(content, signature, allowed).identity == "alice"
        assert "modified" in refusal_of(bundle, allowed, before + b" ")


def refusal_of(bundle: Path, trust: SignerPolicy, content: bytes) -> str:
    with pytest.raises(SignatureError) as caught:
        check_manifest_signature(content, read_signature(str(bundle)), trust)
    return caught.value.message
