from __future__ import annotations

import ipaddress
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.support.bundles import BundleScript, make_bundle
from tests.support.programs import require

pytestmark = pytest.mark.measured

ROOT = Path(__file__).parents[4]
FRONT_DOOR = [sys.executable, "-m", "offline_bundle"]
BODY = "import os, signal, sys, time\nimport alpha\nexec(sys.argv[1])\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle"), {"eval": BundleScript(body=BODY)})


@pytest.fixture
def command(
    own_home: Path, cache: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    del own_home  # which clears the environment first
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(cache))
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv_bin())
    monkeypatch.setenv("COLUMNS", "100")
    return [*FRONT_DOOR, "run", str(bundle / "scripts" / "eval.py"), "--bundle", str(bundle)]


def run(command: list[str], folder: Path, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=60,
        input=options.get("input"),
    )


class TestHere:
    @pytest.mark.parametrize(
        "options", [["-q"], pytest.param(["-q", "--no-network"], marks=pytest.mark.no_network)]
    )
    def test_it_is_the_script(self, command: list[str], tmp_path: Path, options: list[str]) -> None:
        code = "print(os.getcwd(), sys.argv[2:], sys.stdin.read(), alpha.VERSION); sys.exit(42)"
        done = run([*command, *options, "--", code, "-j", "--x"], tmp_path, input="in")
        assert (done.returncode, done.stderr) == (42, "")
        assert done.stdout == f"{tmp_path} ['-j', '--x'] in 1.0\n"

    @pytest.mark.parametrize(
        "options", [["-q"], pytest.param(["-q", "--no-network"], marks=pytest.mark.no_network)]
    )
    def test_its_process_and_signals_are_the_script_s(
        self, command: list[str], tmp_path: Path, options: list[str]
    ) -> None:
        code = "print(os.getpid(), flush=True); time.sleep(60)"
        with subprocess.Popen(
            [*command, *options, code], stdout=subprocess.PIPE, text=True, cwd=tmp_path
        ) as process:
            assert process.stdout
            assert process.stdout.readline() == f"{process.pid}\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == -signal.SIGTERM

    def test_verbose_tells_what_is_chosen(
        self, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "cache"))
        done = run([*command, "-v", "pass"], tmp_path)
        assert done.returncode == 0
        assert find_uv_bin() in done.stderr

    def test_launcher_errors_come_through(self, command: list[str], tmp_path: Path) -> None:
        changed = tmp_path / "eval.py"
        changed.write_text(BundleScript(dependencies=("alpha", "beta")).text)
        done = run([*command[:4], str(changed), *command[5:]], tmp_path)
        assert done.returncode == 7
        assert "beta" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("option", [["--output", "out"], ["--parallel", "2"], ["--json"]])
    def test_options_about_jobs_need_jobs(
        self, command: list[str], tmp_path: Path, option: list[str]
    ) -> None:
        done = run([*command, *option, "print('started')"], tmp_path)
        assert done.returncode == 2
        assert f"{option[0]} requires -j" in done.stdout + done.stderr
        assert "started" not in done.stdout

    @pytest.mark.parametrize(
        ("index", "value"), [(4, "none.py"), (6, "none"), (4, "."), (6, "file")]
    )
    def test_paths_are_checked(
        self, command: list[str], tmp_path: Path, index: int, value: str
    ) -> None:
        (tmp_path / "file").write_text("")
        command[index] = value
        done = run(command, tmp_path)
        assert done.returncode == 2
        assert value in done.stderr


class TestJobs:
    def test_summary(self, command: list[str], tmp_path: Path) -> None:
        code = "open('plot.png', 'w').close(); [open(f'{n}.csv', 'w').close() for n in range(3)]"
        done = run([*command, "-j", "3", code], tmp_path)
        assert done.returncode == 0
        rows = [line.rstrip().split(maxsplit=3) for line in done.stdout.splitlines()]
        assert rows[0] == ["job", "state", "seconds", "files"]
        assert [row[:2] for row in rows[1:4]] == [
            [f"job-000{index}", "done"] for index in (1, 2, 3)
        ]
        assert rows[1][3] == "0.csv, 1.csv, 2.csv and 1 more"
        summary = done.stdout.splitlines()[4]
        assert re.fullmatch(r"3 of 3 jobs done, slowest [0-9.]+ s; files in eval-jobs", summary)
        progress = [line for line in done.stderr.splitlines() if " of 3 jobs: " in line]
        assert progress[-1] == "3 of 3 jobs: none failed"
        assert {line.partition(": ")[2] for line in progress} == {"none failed"}
        assert (tmp_path / "eval-jobs" / "job-0003" / "plot.png").exists()

    def test_failures_are_named_with_their_last_words(
        self, command: list[str], tmp_path: Path
    ) -> None:
        code = "if os.environ['OFFLINE_BUNDLE_JOB'] in '23': sys.exit('\\x1b[2Jno such mesh')"
        done = run([*command, "-j", "4", "--output", "out", code], tmp_path)
        assert done.returncode == 8
        error = done.stderr[done.stderr.index("error: ") :].splitlines()
        assert error == [
            "error: 2 of 4 jobs failed: 2-3",
            "  job-0002: exit code 1",
            "    | \\x1b[2Jno such mesh",
            "  job-0003: exit code 1",
            "    | \\x1b[2Jno such mesh",
            "hint: read the console output in out/job-NNNN/console.txt",
        ]
        assert "2 of 4 jobs done" in done.stdout

    def test_many_jobs_are_told_compactly(self, command: list[str], tmp_path: Path) -> None:
        code = "sys.exit(int(os.environ['OFFLINE_BUNDLE_JOB']) % 2)"
        done = run([*command, "-j", "44", code], tmp_path)
        assert done.returncode == 8
        assert len(done.stdout.splitlines()) == 22
        assert "done" not in done.stdout.splitlines()[1]
        assert "  … and 2 more\n" in done.stderr

    def test_quiet(self, command: list[str], tmp_path: Path) -> None:
        done = run([*command, "-j", "2", "-q", "print('x')"], tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_json(self, command: list[str], tmp_path: Path) -> None:
        code = "print('x'); os.environ['OFFLINE_BUNDLE_JOB'] == '2' and os.abort()"
        done = run([*command, "-j", "2", "--json", "--output", "out", code], tmp_path)
        assert (done.returncode, done.stderr) == (8, "")
        document = json.loads(done.stdout)
        assert document["directory"] == str(tmp_path / "out")
        first, second = document["jobs"]
        assert first.pop("seconds") > 0
        assert first == {
            "job": 1,
            "directory": str(tmp_path / "out" / "job-0001"),
            "state": "done",
            "exit_code": 0,
            "signal": None,
            "console": str(tmp_path / "out" / "job-0001" / "console.txt"),
            "files": [],
        }
        assert (second["state"], second["exit_code"], second["signal"]) == (
            "killed by SIGABRT",
            None,
            6,
        )
        assert document["error"]["code"] == 8
        assert document["error"]["message"].startswith("1 of 2 jobs failed: 2\n")

    def test_json_when_nothing_fails(self, command: list[str], tmp_path: Path) -> None:
        done = run([*command, "-j", "1", "--json", "pass"], tmp_path)
        assert done.returncode == 0
        assert "error" not in json.loads(done.stdout)

    def test_refusals_as_json(self, command: list[str], tmp_path: Path) -> None:
        (tmp_path / "eval-jobs" / "job-0001" / "kept").mkdir(parents=True)
        done = run([*command, "-j", "1", "--json", "pass"], tmp_path)
        assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, 2)

    def test_interrupted(self, command: list[str], tmp_path: Path) -> None:
        code = "job = os.environ['OFFLINE_BUNDLE_JOB']\nif job == '2': open('up', 'w').close(); time.sleep(60)"
        jobs = [*command, "-j", "3", "--parallel", "1", "--output", "out", code]
        with subprocess.Popen(
            jobs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        ) as process:
            limit = time.monotonic() + 20
            while not (tmp_path / "out" / "job-0002" / "up").exists():
                assert time.monotonic() < limit
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            said, errors = process.communicate(timeout=20)
        assert process.returncode == 130
        assert [line.split(maxsplit=2)[0] for line in said.splitlines()[1:3]] == [
            "job-0001",
            "job-0002",
        ]
        assert "killed by SIGINT" in said
        assert "error: interrupted: 1 of 3 jobs done, 1 ended early, 1 not started" in errors

    def test_bar_on_a_terminal(self, command: list[str], tmp_path: Path) -> None:
        ours, theirs = pty.openpty()
        shown: list[bytes] = []
        reader = threading.Thread(target=_drain, args=[ours, shown])
        reader.start()
        jobs = [*command, "-j", "3", "if os.environ['OFFLINE_BUNDLE_JOB'] == '1': sys.exit(1)"]
        environment = {**os.environ, "TERM": "xterm-256color"}
        done = subprocess.run(
            jobs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            check=False,
            cwd=tmp_path,
            timeout=60,
            env=environment,
        )
        os.close(theirs)
        reader.join()
        os.close(ours)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(shown).decode())
        assert done.returncode == 8
        assert "1 failed" in text
        assert "3/3 jobs" in text
        assert "3 of 3 jobs" not in text
        assert "job-0002: done" not in text


@pytest.mark.no_network
class TestNothingLeavesTheMachine:
    def test_a_sealed_run_attempts_no_connection(self, command: list[str], tmp_path: Path) -> None:
        done, attempts = _traced(
            [*command, "--no-network", "-j", "2", "-q", "import alpha"], tmp_path
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert attempts == []

    def test_neither_does_one_that_prepares(
        self, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "cold"))
        done, attempts = _traced([*command, "--no-network", "-q", "print('done')"], tmp_path)
        assert (done.returncode, done.stdout) == (0, "done\n")
        assert attempts == []

    @pytest.mark.parametrize(
        ("code", "address"),
        [
            ("import socket; socket.socket().connect_ex(('192.0.2.7', 80))", "192.0.2.7"),
            (
                "import socket; socket.socket(socket.AF_INET6).connect_ex(('2001:db8::7', 80))",
                "2001:db8::7",
            ),
            (
                "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'', "
                "('198.51.100.7', 53))",
                "198.51.100.7",
            ),
        ],
    )
    def test_an_attempt_would_be_seen(
        self, command: list[str], tmp_path: Path, code: str, address: str
    ) -> None:
        _, attempts = _traced([*command, "--no-network", "-q", code], tmp_path)
        assert attempts == [address]

    def test_loopback_is_no_attempt(self, command: list[str], tmp_path: Path) -> None:
        code = "from socket import *; s = create_server(('127.0.0.1', 0)); create_connection(s.getsockname())"
        done, attempts = _traced([*command, "--no-network", "-q", code], tmp_path)
        assert (done.returncode, attempts) == (0, [])


def test_bundle_defaults_to_the_environment_variable(
    command: list[str], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run` without --bundle uses OFFLINE_BUNDLE."""
    without_bundle = command[: command.index("--bundle")]
    monkeypatch.delenv("OFFLINE_BUNDLE", raising=False)
    done = run([*without_bundle, "print('started')"], tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--bundle" in done.stderr
    monkeypatch.setenv("OFFLINE_BUNDLE", str(bundle))
    done = run([*without_bundle, "-q", "print(alpha.VERSION)"], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1.0\n", "")


@pytest.mark.no_network
def test_old_name_of_no_network_still_works(command: list[str], tmp_path: Path) -> None:
    """The old name of `--no-network` has the same effect: the script sees loopback alone."""
    code = "import socket; print([name for _, name in socket.if_nameindex()])"
    for option in ("--sealed", "--no-network"):  # words: allow
        done = run([*command, option, "-q", code], tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "['lo']\n", ""), option


@pytest.mark.parametrize("name", ["run", "submit"])
def test_old_name_of_no_network_is_not_in_the_help(name: str, tmp_path: Path) -> None:
    """`--help` lists `--no-network` alone."""
    done = run([*FRONT_DOOR, name, "--help"], tmp_path)
    assert done.returncode == 0
    assert "--no-network" in done.stdout
    assert "sealed" not in done.stdout  # words: allow


def _traced(command: list[str], folder: Path) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run *command* under strace; return the addresses outside this machine it tried to reach, too."""
    strace = require("strace")
    trace = folder / "trace.txt"
    # --seccomp-bpf stops the traced processes for these calls only
    watch = [
        strace,
        "-f",
        "--seccomp-bpf",
        "-e",
        "trace=connect,sendto,sendmsg,sendmmsg",
        "-o",
        str(trace),
    ]
    done = run([*watch, *command], folder)
    calls = [line for line in trace.read_text().splitlines() if "AF_INET" in line]
    found = [re.search(r'inet_(?:addr|pton)\((?:AF_INET6, )?"([^"]+)"', line) for line in calls]
    assert all(found), calls
    return done, [
        match[1] for match in found if match and not ipaddress.ip_address(match[1]).is_loopback
    ]


def _drain(descriptor: int, shown: list[bytes]) -> None:
    while True:
        try:
            some = os.read(descriptor, 65536)
        except OSError:  # the other side is closed
            return
        shown.append(some)
