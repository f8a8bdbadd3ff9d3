"""The front door: commands, exit codes and messages, mostly in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner.network import no_network_command
from offline_bundle.wheelhouse.runtime.errors import BundleError
from tests.support.bundles import BundleScript, make_bundle
from tests.support.distributions import make_wheel
from tests.support.index_server import Fault, IndexServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
from tests.support.front_door_cases import HERE, OFFLINE_BUNDLE, bundle, call, script, write_script

__all__ = ["bundle", "script"]


pytestmark = pytest.mark.measured


def skip_or_fail(reason: str) -> None:
    """What a machine lacks is skipped with a reason; where CI is set, the machine is to have it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def test_help_is_quick_because_it_imports_little() -> None:
    code = (
        "import sys\n"
        "from offline_bundle.cli import cli, run_command_line\n"
        "run_command_line(cli, ['--help'], 'offline-bundle')\n"
        "heavy = ('requests', 'rich', 'packaging', 'offline_bundle.builder', "
        "'offline_bundle.runner')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_accepted(bundle: Path, redirection: str) -> None:
    command = f'"{sys.executable}" -m offline_bundle show "{bundle}" {redirection}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_characters_that_stdout_lacks_are_escaped(tmp_path: Path) -> None:
    make_bundle(tmp_path, {"\xe9val": BundleScript()})
    command = [sys.executable, "-m", "offline_bundle", "show", str(tmp_path)]
    variables = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xe9val  " in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_output_to_a_full_disk_is_an_error(bundle: Path) -> None:
    command = f'"{sys.executable}" -m offline_bundle show "{bundle}" > /dev/full'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: output: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_json_and_silence(tmp_path: Path, script: Path, index: IndexServer) -> None:
    words = ["build", script, "-o", tmp_path / "bundle", "--default-index", index.url, "--no-uv"]
    done = call(*words, "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr, document["changed"]) == (0, "", True)
    assert document["locks"][0]["packages"] == {"leaf": "1.0"}
    quiet = call(*words, "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert "up to date" in call(*words).stderr
    assert "leaf 1.0" in call(*words, "--verbose").stderr


def test_verify_names_every_fault_at_once(bundle: Path) -> None:
    assert "all match the manifest" in call("verify", bundle).stderr
    (bundle / "run.py").unlink()
    (bundle / "uv.toml").write_text("offline = false\n")
    (bundle / "wheels/stray.whl").write_bytes(b"")
    done = call("verify", bundle)
    assert done.returncode == 5
    for line in ("missing: run.py", "changed: uv.toml", "extra: wheels/stray.whl"):
        assert line in done.stderr
    told = call("verify", bundle, "--json")
    document = json.loads(told.stdout)
    assert (told.returncode, document["ok"], document["missing"], document["extra"]) == (
        5, False, ["run.py"], ["wheels/stray.whl"],
    )  # fmt: skip
    assert document["error"]["code"] == 5


def test_show_lists_scripts_targets_and_packages(bundle: Path) -> None:
    text = call("show", bundle).stdout
    for word in ("job", HERE, "leaf", "1.0"):
        assert word in text
    document = json.loads(call("show", bundle, "--json").stdout)
    assert [(lock["script"], lock["python"], lock["packages"]) for lock in document["locks"]] == [
        ("job", HERE, 1)
    ]
    assert document["packages"][0]["needed_by"] == [f"job/{document['locks'][0]['target']}"]


def test_the_unresolvable_is_exit_3(tmp_path: Path, index: IndexServer) -> None:
    done = call(
        "build",
        write_script(tmp_path, "no-such"),
        "-o",
        tmp_path / "b",
        "--default-index",
        index.url,
        "--no-uv",
    )
    assert done.returncode == 3
    assert "no-such was not found" in done.stderr


def test_without_a_network_it_says_so(tmp_path: Path, script: Path) -> None:
    try:
        sealed = no_network_command(
            [*OFFLINE_BUNDLE, "build", str(script), "-o", str(tmp_path / "b")]
        )
    except BundleError as error:
        skip_or_fail(str(error))
    environment = {**os.environ, "UV_HTTP_RETRIES": "0"}
    done = subprocess.run(sealed, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 4, done.stderr
    assert "could not reach an index" in done.stderr
    assert not (tmp_path / "b").exists()


def test_a_wheel_that_cannot_be_fetched_is_exit_4_and_named(
    tmp_path: Path, script: Path, index: IndexServer
) -> None:
    index.fault("*.whl", Fault.status(404))
    done = call("build", script, "-o", tmp_path / "b", "--default-index", index.url, "--no-uv")
    assert done.returncode == 4
    assert "leaf-1.0-py3-none-any.whl" in done.stderr


def test_ctrl_c_leaves_the_bundle_as_it_was(
    bundle: Path, packages: Path, script: Path, index: IndexServer
) -> None:
    before = (bundle / "bundle.json").read_bytes()
    make_wheel(packages, "slow", padding=200_000)
    index.fault("*slow*.whl", Fault.trickle(0.5))
    words = [
        "build",
        write_script(script.parent, "slow", name="two"),
        "-o",
        bundle,
        "--default-index",
        index.url,
        "--no-uv",
    ]
    process = subprocess.Popen(
        [*OFFLINE_BUNDLE, *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not index.requests_for("*slow*.whl"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert (bundle / "bundle.json").read_bytes() == before
    assert call("verify", bundle).returncode == 0
    index.clear_faults()
    assert call(*words).returncode == 0


def test_two_builds_at_once_into_one_bundle_both_count(
    tmp_path: Path, packages: Path, index: IndexServer
) -> None:
    make_wheel(packages, "one")
    make_wheel(packages, "two")
    processes = []
    for name in ("one", "two"):
        words = [
            "build",
            write_script(tmp_path, name, name=name),
            "-o",
            tmp_path / "b",
            "--default-index",
            index.url,
            "--no-uv",
        ]
        processes.append(
            subprocess.Popen([*OFFLINE_BUNDLE, *map(str, words)], stderr=subprocess.PIPE, text=True)
        )
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    assert {
        lock["script"]
        for lock in json.loads(call("show", tmp_path / "b", "--json").stdout)["locks"]
    } == {
        "one",
        "two",
    }
    assert call("verify", tmp_path / "b").returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if (
        shutil.which("mount") is None
        or subprocess.run(command, capture_output=True, check=False).returncode != 0
    ):
        if os.environ.get("CI") and os.getuid() == 0:
            pytest.fail("a small tmpfs cannot be mounted")
        pytest.skip("mounting a small tmpfs needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_exit_1_and_loses_nothing(
    small_disk: Path, tmp_path: Path, script: Path, packages: Path, index: IndexServer
) -> None:
    target = small_disk / "bundle"
    assert (
        call("build", script, "-o", target, "--default-index", index.url, "--no-uv").returncode == 0
    )
    before = (target / "bundle.json").read_bytes()
    make_wheel(packages, "large", padding=2_000_000)
    large = write_script(tmp_path, "large", name="large")
    done = call("build", large, "-o", target, "--default-index", index.url, "--no-uv")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "free some space" in done.stderr
    assert (target / "bundle.json").read_bytes() == before
    assert call("verify", target).returncode == 0


def test_a_place_that_may_not_be_written_is_exit_1(
    tmp_path: Path, script: Path, index: IndexServer
) -> None:
    """For root nothing is forbidden: a file system that takes no files stands in."""
    done = call(
        "build", script, "-o", "/proc/offline-bundle-test", "--default-index", index.url, "--no-uv"
    )
    assert done.returncode == 1
    assert "/proc/offline-bundle-test" in done.stderr
    assert "hint:" in done.stderr
    assert not (tmp_path / "b").exists()


def test_a_reader_that_goes_away_is_no_error(bundle: Path) -> None:
    command = f"{' '.join(OFFLINE_BUNDLE)} show {bundle} --json | head -c 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
