from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner import network
from offline_bundle.wheelhouse.runtime.errors import BundleError
from tests.support.machine import require_network_namespace
from tests.support.programs import require

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.measured

LOOK_AROUND = """
import errno, os, socket
for address in ("192.0.2.1", "10.0.0.1", "2001:db8::1"):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
        code = client.connect_ex((address, 80))
        assert code in (errno.ENETUNREACH, errno.EADDRNOTAVAIL), (address, os.strerror(code))
with socket.create_server(("127.0.0.1", 0)) as server:
    with socket.create_connection(server.getsockname()) as client:
        server.accept()[0].close()
assert [name for _, name in socket.if_nameindex() if name != "lo"] in ([], ["sit0"], ["tunl0", "sit0"])
assert os.path.exists("/dev/null") and os.path.exists("/proc/self/status")
print(os.getuid(), os.getgid(), os.getcwd())
"""

UNSHARE = [sys.executable, "-I", str(network.HELPER)]
BUBBLEWRAP = [*UNSHARE, "--bubblewrap", shutil.which("bwrap") or "bwrap"]


@pytest.fixture(params=[UNSHARE, BUBBLEWRAP], ids=["unshare", "bubblewrap"])
def mechanism(request: pytest.FixtureRequest) -> list[str]:
    command: list[str] = request.param
    if command is BUBBLEWRAP:
        require("bwrap")
    require_network_namespace(*command[len(UNSHARE) :])
    return command


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    network._working_mechanism.cache_clear()
    yield
    network._working_mechanism.cache_clear()


def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, **options
    )  # type: ignore[call-overload,no-any-return]


@pytest.mark.no_network
def test_no_network_command_leaves_loopback_only(tmp_path: Path) -> None:
    done = run(network.no_network_command([sys.executable, "-c", LOOK_AROUND]), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(os.getuid()), str(os.getgid()), str(tmp_path)]


def test_only_loopback(mechanism: list[str]) -> None:
    done = run([*mechanism, "--", sys.executable, "-c", LOOK_AROUND])
    assert (done.returncode, done.stderr) == (0, "")


def test_the_check_would_catch_a_network() -> None:
    assert run([sys.executable, "-c", LOOK_AROUND]).returncode != 0


def test_exit_code_streams_and_arguments_come_through(mechanism: list[str]) -> None:
    code = "import sys; print(sys.stdin.read(), sys.argv[1:]); sys.exit(7)"
    done = run(
        [*mechanism, "--", sys.executable, "-c", code, "--", "a b", "--bubblewrap"], input="in"
    )
    assert (done.returncode, done.stdout) == (7, "in ['--', 'a b', '--bubblewrap']\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_come_through(mechanism: list[str], number: signal.Signals) -> None:
    code = textwrap.dedent(f"""
        import signal, sys, time
        signal.signal({int(number)}, lambda *_: sys.exit(33))
        print("ready", flush=True)
        time.sleep(30)
    """)
    with subprocess.Popen(
        [*mechanism, "--", sys.executable, "-c", code], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(10) == 33


def test_death_by_signal_is_seen(mechanism: list[str]) -> None:
    done = run([*mechanism, "--", "sh", "-c", "kill -KILL $$"])
    assert done.returncode == (-signal.SIGKILL if mechanism is UNSHARE else 128 + signal.SIGKILL)


def test_signals_ignored_by_python_are_restored(mechanism: list[str]) -> None:
    done = run([*mechanism, "--", "grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"])
    plain = run(["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"])
    assert done.stdout == plain.stdout


@pytest.mark.no_network
def test_unshare_keeps_the_process_id() -> None:
    with subprocess.Popen(
        [*UNSHARE, "--", "sh", "-c", "echo $$"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.communicate()[0] == f"{process.pid}\n"


def test_no_such_command(mechanism: list[str]) -> None:
    done = run([*mechanism, "--", "no-such-command"])
    assert (done.returncode, done.stderr) == (127, "no-such-command: No such file or directory\n")


def test_inside_refuses_a_connected_network() -> None:
    done = run([*UNSHARE, "--inside", "--", "echo", "started"])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: still connected through ")


@pytest.mark.no_network
@pytest.mark.skipif(os.getuid() != 0, reason="the other tests already run as an unprivileged user")
@pytest.mark.parametrize("program", ["unshare", "bubblewrap"])
def test_unprivileged_user(program: str) -> None:
    options = ["--bubblewrap", require("bwrap")] if program == "bubblewrap" else []
    python = shutil.which(
        "python3", path="/usr/bin:/usr/local/bin"
    )  # our own may be in root's home
    assert python
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o777)
        helper = Path(folder) / "no_network.py"
        shutil.copy(network.HELPER, helper)
        helper.chmod(0o644)
        code = f"{LOOK_AROUND}\nopen('made', 'w').close()"
        done = run(
            [python, "-I", str(helper), *options, "--", python, "-c", code],
            user="nobody", group="nogroup", extra_groups=[], cwd=folder,
        )  # fmt: skip
        nobody = Path(folder, "made").stat().st_uid
    assert (done.returncode, done.stderr) == (0, "")
    assert nobody != 0
    assert done.stdout.split()[0] == str(nobody)


def _broken_helper(folder: Path) -> Path:
    helper = folder / "no_network.py"
    helper.write_text(
        "import sys\n"
        "if '--bubblewrap' in sys.argv: sys.exit('bwrap: setting up uid map: Permission denied')\n"
        "sys.exit('error: unshare(2): Operation not permitted')\n"
    )
    return helper


def test_refuses_where_nothing_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "HELPER", _broken_helper(tmp_path))
    monkeypatch.setattr(network, "find_program", lambda _name: "/opt/bin/bwrap")
    with pytest.raises(BundleError) as caught:
        network.no_network_command(["true"])
    assert caught.value.exit_code == 1
    first, second = caught.value.problems
    assert first == "unshare(2): unshare(2): Operation not permitted"
    assert second == "bubblewrap (/opt/bin/bwrap): bwrap: setting up uid map: Permission denied"
    assert caught.value.hint
    assert "user.max_user_namespaces" in caught.value.hint


def test_says_that_bubblewrap_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "HELPER", _broken_helper(tmp_path))
    monkeypatch.setattr(network, "find_program", lambda _name: None)
    with pytest.raises(BundleError) as caught:
        network.no_network_command(["true"])
    assert caught.value.problems[1] == "bubblewrap: `bwrap` is not on PATH"


def test_falls_back_to_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "no_network.py"
    helper.write_text("import sys\nsys.exit('--bubblewrap' not in sys.argv)\n")
    monkeypatch.setattr(network, "HELPER", helper)
    monkeypatch.setattr(network, "find_program", lambda _name: "/opt/bin/bwrap")
    assert network.no_network_command(["true"])[3:] == [
        "--bubblewrap",
        "/opt/bin/bwrap",
        "--",
        "true",
    ]


def test_helper_that_hangs_or_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_TRIAL_SECONDS", 0.2)
    assert network._find_fault(["sleep", "5"]) == "no answer within 0.2 seconds"
    assert network._find_fault([str(tmp_path / "none")]) == "No such file or directory"
    assert network._find_fault(["false"]) == "exit code 1"
