"""The execution script under a signature policy: nothing of a bundle runs before it is checked."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from uv import find_uv_bin

from offline_bundle.wheelhouse.signing import sign
from offline_bundle.wheelhouse.transport.pack import pack
from tests.support.bundles import BundleScript, make_bundle
from tests.support.hps_exec_script_cases import list_checksums, module, put, run, task
from tests.support.site_policy import FORGED, forge, make_site

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    Execute = Callable[..., dict[str, Any]]

__all__ = ["module", "run", "task"]

SCRIPT = BundleScript(body="import alpha; open('ran', 'w').close()\n")


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    policy = make_site(tmp_path / "site")
    monkeypatch.setenv("OFFLINE_BUNDLE_POLICY", str(policy))
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv_bin())
    return policy


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", {"eval": SCRIPT})


def test_a_forged_bundle_does_not_run(
    bundle: Path, policy: Path, task: Path, run: Execute, capfd: pytest.CaptureFixture[str]
) -> None:
    del policy
    forge(bundle)
    with pytest.raises(RuntimeError, match="not signed"):
        run(input_files=put(task, eval=SCRIPT.text), environment={"OFFLINE_BUNDLE": str(bundle)})
    printed = capfd.readouterr()
    assert FORGED not in printed.out + printed.err
    assert not (task / "ran").exists()


def test_a_signed_bundle_runs(bundle: Path, policy: Path, task: Path, run: Execute) -> None:
    sign(bundle, str(policy.with_name("alice")))
    run(input_files=put(task, eval=SCRIPT.text), environment={"OFFLINE_BUNDLE": str(bundle)})
    assert (task / "ran").exists()


@pytest.mark.parametrize("is_signed", [True, False])
def test_an_upload_is_unpacked_by_the_site(
    bundle: Path,
    policy: Path,
    task: Path,
    run: Execute,
    capfd: pytest.CaptureFixture[str],
    *,
    is_signed: bool,
) -> None:
    list_checksums(bundle)
    if is_signed:
        sign(bundle, str(policy.with_name("alice")))
    pack(bundle, task / "offline-bundle.tar")
    (task / "unpack.py").write_text(f"print({FORGED!r})\n")
    names = ("offline-bundle.tar", "unpack.py")
    inputs = put(task, eval=SCRIPT.text)
    inputs += [{"name": name, "path": str(task / name)} for name in names]
    if is_signed:
        run(input_files=inputs)
    else:
        with pytest.raises(RuntimeError, match="not signed"):
            run(input_files=inputs)
    assert (task / "ran").exists() is is_signed
    printed = capfd.readouterr()
    assert FORGED not in printed.out + printed.err


def test_the_site_without_an_unpacker_refuses_uploads(
    bundle: Path, policy: Path, task: Path, run: Execute
) -> None:
    list_checksums(bundle)
    pack(bundle, task / "offline-bundle.tar")
    policy.with_name("unpack.py").unlink()
    inputs = put(task, eval=SCRIPT.text)
    inputs.append({"name": "offline-bundle.tar", "path": str(task / "offline-bundle.tar")})
    with pytest.raises(RuntimeError, match=r"unpack\.py is missing"):
        run(input_files=inputs)


@pytest.mark.parametrize(
    "document",
    ["", "[]", "{}", '{"launcher": 1}', "[" * 100_000, json.dumps({"allowed-signers": "a"})],
)
def test_a_policy_without_a_launcher_starts_nothing(
    bundle: Path, policy: Path, task: Path, run: Execute, document: str
) -> None:
    policy.write_text(document)
    with pytest.raises(RuntimeError, match="does not name a launcher"):
        run(input_files=put(task, eval=SCRIPT.text), environment={"OFFLINE_BUNDLE": str(bundle)})
    assert not (task / "ran").exists()


@pytest.mark.parametrize("name", ["policy.json", "run.py", "runtime/errors.py", "runtime", "."])
def test_what_others_can_change_is_refused(
    bundle: Path, policy: Path, task: Path, run: Execute, name: str
) -> None:
    sign(bundle, str(policy.with_name("alice")))
    (policy.parent / name).chmod(0o777)
    with pytest.raises(RuntimeError, match="can be changed by others"):
        run(input_files=put(task, eval=SCRIPT.text), environment={"OFFLINE_BUNDLE": str(bundle)})
    assert not (task / "ran").exists()


def test_the_policy_of_the_site_wins_over_that_of_a_task(
    policy: Path, module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLICY", str(policy))
    chosen = {"OFFLINE_BUNDLE_POLICY": str(tmp_path / "mine.json")}
    assert module.site_launcher(chosen) == policy.with_name("run.py")
    assert module.site_launcher({}) == policy.with_name("run.py")
    monkeypatch.setattr(module, "POLICY", str(tmp_path / "none"))
    assert module.site_launcher({}) is None


def test_a_fifo_in_place_of_the_policy_is_not_waited_for(
    bundle: Path, policy: Path, task: Path, run: Execute
) -> None:
    policy.unlink()
    os.mkfifo(policy)
    with pytest.raises(RuntimeError, match="does not name a launcher"):
        run(input_files=put(task, eval=SCRIPT.text), environment={"OFFLINE_BUNDLE": str(bundle)})
