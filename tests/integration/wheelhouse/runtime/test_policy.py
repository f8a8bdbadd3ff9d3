from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from offline_bundle.wheelhouse import runtime
from offline_bundle.wheelhouse.runtime.bundle import policy
from offline_bundle.wheelhouse.runtime.bundle.policy import (
    may_be_in_force,
    policy_state,
    trusted_manifest,
)
from offline_bundle.wheelhouse.runtime.bundle.signatures import SignerPolicy
from offline_bundle.wheelhouse.runtime.errors import SignatureError
from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter
from offline_bundle.wheelhouse.signing import check_trust, sign
from tests.support.bundles import make_bundle
from tests.support.node import python_for_everybody
from tests.support.policy_cases import bundle, kind_of_refusal, system_policy, write_policy
from tests.support.programs import require
from tests.support.signing_cases import allowing, make_key, public

__all__ = ["bundle", "system_policy"]

RUNTIME = Path(runtime.__file__).parent


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes are POSIX's")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "alice")
    return tmp_path / "alice"


def test_the_site_asks_for_a_signature(bundle: Path, key: Path, system_policy: Path) -> None:
    write_policy(system_policy, allowed_signers="signers", signer="alice")
    allowing(system_policy.parent, f"alice {public(key)}").rename(
        system_policy.with_name("signers")
    )
    assert may_be_in_force()
    assert kind_of_refusal(bundle) == "absent"
    sign(bundle, str(key))
    content, signers = trusted_manifest(str(bundle))
    assert content == (bundle / "bundle.json").read_bytes()
    assert [signer.identity for signer in signers] == ["alice"]
    signature = (bundle / "bundle.json.sig").read_bytes()
    assert [signer.identity for signer in check_trust(content, signature, None)] == ["alice"]
    trust = SignerPolicy(system_policy.with_name("signers"))
    assert [signer.identity for signer in check_trust(content, signature, trust)] == [
        "alice",
        "alice",
    ]
    with pytest.raises(SignatureError, match="not signed"):
        check_trust(content, None, None)


def test_the_variable_adds_and_never_takes_away(
    bundle: Path, key: Path, system_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key(tmp_path / "mallory")
    sign(bundle, str(tmp_path / "mallory"))
    own = write_policy(tmp_path / "own" / "policy.json", allowed_signers="allowed_signers")
    allowing(own.parent, f"mallory {public(tmp_path / 'mallory')}")
    monkeypatch.setenv("OFFLINE_BUNDLE_POLICY", str(own))
    assert len(trusted_manifest(str(bundle))[1]) == 1
    write_policy(system_policy, allowed_signers="allowed_signers")
    allowing(system_policy.parent, f"alice {public(key)}")
    assert kind_of_refusal(bundle) == "not-allowed"
    sign(bundle, str(key))
    assert kind_of_refusal(bundle) == "not-allowed"
    allowing(own.parent, f"alice {public(key)}")
    assert len(trusted_manifest(str(bundle))[1]) == 2


@pytest.fixture
def signed(bundle: Path, key: Path, system_policy: Path) -> Path:
    """A bundle with a signature that the system's policy allows."""
    write_policy(system_policy, allowed_signers="allowed_signers")
    allowing(system_policy.parent, f"alice {public(key)}")
    sign(bundle, str(key))
    return bundle


@pytest.mark.parametrize("odd", ["policy.json", "allowed_signers"])
def test_a_fifo_is_no_policy_and_is_not_waited_for(
    signed: Path, system_policy: Path, odd: str
) -> None:
    (system_policy.parent / odd).unlink()
    os.mkfifo(system_policy.parent / odd)
    assert kind_of_refusal(signed) == "policy"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("allowed-signers", "a\0b"),
        ("signer", "\ud800"),
        ("revoked-keys", "\x1b[31m"),
        ("ssh-keygen", "a\nb"),
        ("launcher", "\u202ea"),
    ],
    ids=["NUL", "surrogate", "escape", "line end", "direction"],
)
def test_names_that_cannot_be_printed_are_refused(
    signed: Path, system_policy: Path, name: str, value: str
) -> None:
    document = json.loads(system_policy.read_text())
    system_policy.write_text(json.dumps({**document, name: value}))
    with pytest.raises(SignatureError, match="has unknown keys or values") as caught:
        trusted_manifest(str(signed))
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("writable", ["policy.json", "allowed_signers", "."])
def test_what_others_can_write_is_no_policy(
    signed: Path, system_policy: Path, writable: str
) -> None:
    assert trusted_manifest(str(signed))[1]
    (system_policy.parent / writable).chmod(0o777)
    assert kind_of_refusal(signed) == "policy"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a link away")
@pytest.mark.parametrize("linked", ["policy.json", "allowed_signers", "."])
def test_what_is_behind_a_link_of_another_user_is_no_policy(
    signed: Path, system_policy: Path, linked: str
) -> None:
    """It could lead elsewhere when the file is read."""
    path = system_policy.parent / linked
    path.rename(system_policy.parents[1] / "real")
    path.symlink_to(system_policy.parents[1] / "real")
    assert trusted_manifest(str(signed))[1]
    os.chown(path, 12345, -1, follow_symlinks=False)
    assert kind_of_refusal(signed) == "policy"


FORCE = """
import sys
from runtime.bundle import policy
policy.POLICY_PATH = sys.argv[1]
print(policy.may_be_in_force())
try:
    policy.trusted_manifest(sys.argv[2])
except policy.SignatureError as error:
    print(error.kind)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("state", ["closed", "link to nothing", "none"])
def test_a_policy_that_cannot_be_read_is_in_force(state: str) -> None:
    """A site may have closed the folder by mistake: that must not switch its policy off."""
    with tempfile.TemporaryDirectory() as folder:  # where other users can read
        top = Path(folder)
        top.chmod(0o755)
        shutil.copytree(RUNTIME, top / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
        make_bundle(top / "bundle")
        path = top / "etc/policy.json"
        path.parent.mkdir(mode=0o700 if state == "closed" else 0o755)
        if state == "link to nothing":
            path.symlink_to("missing")
        user = [require("setpriv"), "--reuid=12341", "--regid=12341", "--clear-groups"]
        command = [*user, python_for_everybody(), "-c", FORCE, path, top / "bundle"]
        done = subprocess.run(command, cwd=top, capture_output=True, text=True, check=True)
        assert done.stdout == ("False\n" if state == "none" else "True\npolicy\n")
        script = (RUNTIME / "launcher/run.sh").read_text()
        check = script[script.index("site=/etc") : script.index("cache=${OFF")]
        shell = f"fail() {{ exit $1; }}\n{check.replace('/etc/offline-bundle', str(path.parent))}"
        code = subprocess.run([*user, "sh", "-c", shell], check=False).returncode
        assert code == (0 if state == "none" else 6)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_the_sites_policy_must_be_roots(
    bundle: Path, system_policy: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(policy, "POLICY_PATH", str(system_policy))
    write_policy(system_policy, allowed_signers="allowed_signers")
    allowing(system_policy.parent, f"alice {public(key)}")
    os.chown(system_policy, 12345, -1)
    assert kind_of_refusal(bundle) == "policy"
    os.chown(system_policy, 0, -1)
    assert kind_of_refusal(bundle) == "absent"


def test_a_remembered_verdict_ends_with_what_it_stands_on(
    bundle: Path, key: Path, system_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(system_policy, allowed_signers="allowed_signers")
    signers = allowing(system_policy.parent, f"alice {public(key)}")
    sign(bundle, str(key))
    hour = 3_600_000
    monkeypatch.setattr("time.time", lambda: hour)
    states = [policy_state(str(bundle))]
    assert policy_state(str(bundle)) == states[0]
    signers.write_text("")
    states.append(policy_state(str(bundle)))
    (bundle / "bundle.json.sig").unlink()
    states.append(policy_state(str(bundle)))
    monkeypatch.setattr("time.time", lambda: hour + 3600)
    states.append(policy_state(str(bundle)))
    write_policy(system_policy, allowed_signers="allowed_signers", signer="alice")
    states.append(policy_state(str(bundle)))
    assert len({tuple(state) for state in states}) == len(states)


def test_reading_while_an_update_commits(
    bundle: Path, key: Path, system_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(system_policy, allowed_signers="allowed_signers")
    allowing(system_policy.parent, f"alice {public(key)}")
    sign(bundle, str(key))
    after = (bundle / "bundle.json").read_bytes()
    seen = iter([after.replace(b'"tests"', b'"before"'), after])
    monkeypatch.setattr(policy, "_read_manifest", lambda _: next(seen))
    content, signers = trusted_manifest(str(bundle))
    assert content == after
    assert signers


def test_roots_user_in_a_user_namespace() -> None:
    command = ["unshare", "--user", "--map-user=1000", sys.executable, "-c"]
    code = f"from {policy.__name__} import root_users; print(sorted(root_users()))"
    root = Path(__file__).parents[4]
    try:
        done = subprocess.run(
            [*command, code], cwd=root, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if done.returncode:
        pytest.skip(f"user namespaces are not to be had here: {done.stderr}")
    assert len(json.loads(done.stdout)) == 2


def test_it_works_on_the_oldest_python_a_node_may_have(
    bundle: Path, key: Path, tmp_path: Path
) -> None:
    """From the copy in the bundle."""
    oldest = find_interpreter((3, 9)) or shutil.which("python3.9")
    if oldest is None:
        pytest.skip("this machine has no Python 3.9")
    sign(bundle, str(key))
    write_policy(tmp_path / "own" / "policy.json", allowed_signers="allowed_signers")
    allowing(tmp_path / "own", f"alice {public(key)}")
    code = (
        "import sys; from runtime.bundle import policy; "
        "print(policy.trusted_manifest(sys.argv[1])[1][0].identity)"
    )
    variables = {
        **os.environ,
        "OFFLINE_BUNDLE_POLICY": str(tmp_path / "own" / "policy.json"),
        "PYTHONPATH": str(bundle),
    }
    done = subprocess.run(
        [oldest, "-c", code, bundle], env=variables, capture_output=True, text=True, check=True
    )
    assert done.stdout == "alice\n"
