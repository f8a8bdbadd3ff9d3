from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from uv import find_uv_bin

from offline_bundle.runner.engines.local import launch, pool, processes
from offline_bundle.runner.engines.local.jobs import free_directories, run_jobs
from offline_bundle.runner.engines.local.pool import JobResult, JobsInterruptedError
from offline_bundle.runner.model import job_name
from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    InputError,
    IntegrityError,
    NotInBundleError,
)
from offline_bundle.wheelhouse.runtime.parallel import cpus
from tests.support.bundles import BundleScript, make_bundle

BODY = "import os, signal, sys, time\nimport alpha\nexec(sys.argv[1])\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _one_cache_for_all_tests(own_home: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del own_home  # which clears the environment first
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(cache))
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv_bin())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle"), {"eval": BundleScript(body=BODY)})


@pytest.fixture(scope="module")
def script(bundle: Path) -> Path:
    return bundle / "scripts" / "eval.py"


class TestResults:
    def test_each_job_has_a_directory_and_a_console(
        self, script: Path, bundle: Path, tmp_path: Path
    ) -> None:
        code = (
            "print(*(os.environ['OFFLINE_BUNDLE_' + name] for name in ('JOB', 'JOBS')), "
            "sys.argv[2:])\n"
            "print(alpha.VERSION, os.getcwd(), file=sys.stderr)\n"
            "os.mkdir('plots'); open('plots/a.png', 'w').close(); open('b.csv', 'w').close()\n"
        )
        arguments = [code, "-q", "--", "x y"]
        results = run_jobs(script, bundle, jobs=3, directory=tmp_path / "out", arguments=arguments)
        assert [result.index for result in results] == [1, 2, 3]
        for result in results:
            assert result.directory == tmp_path / "out" / f"job-000{result.index}"
            assert (result.exit_code, result.signal, result.state) == (0, None, "done")
            assert result.succeeded
            assert result.console == result.directory / "console.txt"
            said = set(result.console.read_text().splitlines())
            assert said == {f"{result.index} 3 ['-q', '--', 'x y']", f"1.0 {result.directory}"}
            assert result.files == ("b.csv", "plots/a.png")
            assert result.seconds > 0

    def test_a_silent_job_leaves_no_console(
        self, script: Path, bundle: Path, tmp_path: Path
    ) -> None:
        (result,) = run_jobs(script, bundle, jobs=1, directory=tmp_path, arguments=["pass"])
        assert (result.console, result.tail, result.files) == (None, "", ())
        assert list(result.directory.iterdir()) == []

    def test_failing_jobs_stop_no_other(self, script: Path, bundle: Path, tmp_path: Path) -> None:
        code = (
            "job = os.environ['OFFLINE_BUNDLE_JOB']\n"
            "if job == '1': print('x' * 9999 + '\\n' * 99 + 'the end'); sys.exit(3)\n"
            "if job == '2': os.write(1, b'\\xff'); os.kill(os.getpid(), signal.SIGKILL)\n"
            "if job == '3': raise ValueError('no such mesh')\n"
        )
        results = run_jobs(script, bundle, jobs=4, directory=tmp_path, arguments=[code], parallel=1)
        assert [result.state for result in results] == [
            "exit code 3",
            "killed by SIGKILL",
            "exit code 1",
            "done",
        ]
        assert [result.signal for result in results] == [None, signal.SIGKILL, None, None]
        assert results[0].tail.endswith("\nthe end")
        assert len(results[0].tail.splitlines()) == 10
        assert results[1].tail == "\ufffd"
        assert results[2].tail.endswith("ValueError: no such mesh")

    def test_a_job_may_remove_its_console_and_directory(
        self, script: Path, bundle: Path, tmp_path: Path
    ) -> None:
        code = "import shutil; print('x', flush=True); shutil.rmtree(os.getcwd()); sys.exit(4)"
        (result,) = run_jobs(script, bundle, jobs=1, directory=tmp_path, arguments=[code])
        assert (result.exit_code, result.console, result.tail, result.files) == (4, None, "", ())

    def test_a_job_that_cannot_be_started_is_a_failed_one(
        self, script: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(processes.JobProcesses, "start", refuse)
        results = run_jobs(script, bundle, jobs=2, directory=tmp_path, arguments=["pass"])
        assert [result.exit_code for result in results] == [126, 126]
        assert results[0].tail == "error: the job could not start: Resource temporarily unavailable"
        assert results[0].console
        assert results[0].console.read_text() == f"{results[0].tail}\n"

    def test_real_time_signals_have_no_name(self, tmp_path: Path) -> None:
        result = JobResult(1, tmp_path, None, signal.SIGRTMIN + 2, 0.1, None, "", ())
        assert result.state == f"killed by signal {signal.SIGRTMIN + 2}"


class TestStarting:
    def test_so_many_at_a_time(self, script: Path, bundle: Path, tmp_path: Path) -> None:
        code = "print(time.monotonic()); time.sleep(0.3); print(time.monotonic())"
        seen: list[JobResult] = []
        results = run_jobs(
            script,
            bundle,
            jobs=5,
            directory=tmp_path,
            arguments=[code],
            parallel=2,
            on_result=seen.append,
        )
        changes = []
        for result in results:
            begin, end = map(float, result.tail.split())
            changes += [(begin, 1), (end, -1)]
        running = [0]
        for _, change in sorted(changes):
            running.append(running[-1] + change)
        assert max(running) == 2
        assert sorted(seen, key=lambda result: result.index) == results

    def test_one_after_the_other(self, script: Path, bundle: Path, tmp_path: Path) -> None:
        code = "print(time.monotonic()); time.sleep(0.05); print(time.monotonic())"
        results = run_jobs(script, bundle, jobs=3, directory=tmp_path, arguments=[code], parallel=1)
        moments = [float(moment) for result in results for moment in result.tail.split()]
        assert all(earlier < later for earlier, later in pairwise(moments))

    @pytest.mark.skipif(
        not hasattr(os, "sched_setaffinity"), reason="this system pins no process to cores"
    )
    def test_usable_cores_are_those_of_this_process(self) -> None:
        before = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {min(before)})
            assert cpus() == 1
        finally:
            os.sched_setaffinity(0, before)
        assert cpus() == len(before)

    def test_works_outside_the_main_thread(
        self, script: Path, bundle: Path, tmp_path: Path
    ) -> None:
        results: list[JobResult] = []
        thread = threading.Thread(
            target=lambda: results.extend(
                run_jobs(script, bundle, jobs=1, directory=tmp_path, arguments=["sys.exit(5)"])
            )
        )
        thread.start()
        thread.join()
        assert [result.exit_code for result in results] == [5]

    def test_stdin_is_empty_and_signals_are_default(
        self, script: Path, bundle: Path, tmp_path: Path
    ) -> None:
        code = "print(repr(sys.stdin.read()), signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
        (result,) = run_jobs(script, bundle, jobs=1, directory=tmp_path, arguments=[code])
        assert result.tail == "'' True"

    def test_relative_paths(
        self, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(bundle.parent)
        script = Path(bundle.name, "scripts", "eval.py")
        python = os.path.relpath(sys.executable)
        (result,) = run_jobs(
            script, Path(bundle.name), jobs=1, directory=tmp_path, arguments=["pass"], python=python
        )
        assert result.succeeded

    @pytest.mark.no_network
    def test_sealed_jobs_have_no_network(self, script: Path, bundle: Path, tmp_path: Path) -> None:
        code = (
            "import socket; print([name for _, name in socket.if_nameindex()]); print(os.getuid())"
        )
        code += "; socket.create_connection(('192.0.2.1', 80), 5)"
        results = run_jobs(
            script, bundle, jobs=2, directory=tmp_path, arguments=[code], no_network=True
        )
        for result in results:
            assert result.exit_code == 1
            assert result.tail.endswith("OSError: [Errno 101] Network is unreachable")
            assert result.console
            assert str(os.getuid()) in result.console.read_text().splitlines()


class TestRefusals:
    def test_results_are_never_overwritten(
        self, script: Path, bundle: Path, tmp_path: Path
    ) -> None:
        kept = tmp_path / "job-0002" / "plot.png"
        kept.parent.mkdir()
        kept.write_text("precious")
        (tmp_path / "job-0001").mkdir()
        with pytest.raises(
            InputError, match=r"already has .*job-0002\); nothing was started"
        ) as caught:
            run_jobs(script, bundle, jobs=3, directory=tmp_path, arguments=["print(1)"])
        assert caught.value.hint
        assert "--output" in caught.value.hint
        assert sorted(path.name for path in tmp_path.rglob("*")) == [
            "job-0001",
            "job-0002",
            "plot.png",
        ]
        kept.unlink()
        assert all(
            run.succeeded
            for run in run_jobs(script, bundle, jobs=3, directory=tmp_path, arguments=["pass"])
        )

    def test_many_taken_directories_are_named_briefly(
        self, script: Path, bundle: Path, tmp_path: Path
    ) -> None:
        for index in range(1, 8):
            (tmp_path / f"job-000{index}").write_text("a file")
        with pytest.raises(InputError, match="job-0005, …"):
            run_jobs(script, bundle, jobs=9, directory=tmp_path)

    def test_names_are_as_wide_as_the_last_number(self, tmp_path: Path) -> None:
        """A ledger of results finds jobs by the same names."""
        directories = free_directories(tmp_path, 10_000)
        assert [directories[0].name, directories[-1].name] == ["job-00001", "job-10000"]
        assert [path.name for path in directories] == [
            job_name(number, 10_000) for number in range(1, 10_001)
        ]

    def test_output_that_cannot_be_made(self, script: Path, bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(BundleError, match=r"cannot create .*: Not a directory"):
            run_jobs(
                script, bundle, jobs=1, directory=tmp_path / "file" / "out", arguments=["pass"]
            )

    def test_output_that_cannot_be_read(
        self, script: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "iterdir", refuse)  # root may read everything
        (tmp_path / "job-0001").mkdir()
        with pytest.raises(BundleError, match=r"cannot read .*job-0001: Permission denied"):
            run_jobs(script, bundle, jobs=1, directory=tmp_path, arguments=["pass"])

    @pytest.mark.parametrize(
        "no_network", [False, pytest.param(True, marks=pytest.mark.no_network)]
    )
    def test_what_the_launcher_has_to_say_is_said_once(
        self, bundle: Path, tmp_path: Path, *, no_network: bool
    ) -> None:
        changed = tmp_path / "eval.py"
        changed.write_text(BundleScript(dependencies=("alpha", "beta")).text)
        with pytest.raises(NotInBundleError, match="beta") as caught:
            run_jobs(changed, bundle, jobs=3, directory=tmp_path / "out", no_network=no_network)
        assert not caught.value.message.startswith("error")
        assert caught.value.hint
        assert not (tmp_path / "out").exists()

    def test_bad_script(self, bundle: Path, tmp_path: Path) -> None:
        bad = tmp_path / "eval.py"
        bad.write_text("# /// script\n# dependencies = [\n")
        with pytest.raises(InputError, match="not closed"):
            run_jobs(bad, bundle, jobs=1, directory=tmp_path)

    def test_damaged_bundle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(tmp_path / "cache"))
        damaged = make_bundle(tmp_path / "bundle")
        next(damaged.glob("wheels/*.whl")).write_bytes(b"")
        with pytest.raises(IntegrityError, match="alpha"):
            run_jobs(damaged / "scripts" / "eval.py", damaged, jobs=1, directory=tmp_path / "out")

    @pytest.mark.no_network
    def test_a_launcher_that_breaks(
        self,
        script: Path,
        bundle: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        broken = tmp_path / "run.py"
        broken.write_text(
            "import os, sys; print('Preparing ...', file=sys.stderr, flush=True); os.abort()"
        )
        monkeypatch.setattr(launch, "_LAUNCHER", (sys.executable, str(broken)))
        with pytest.raises(
            BundleError, match="ended with exit code -6 before any job was started"
        ) as caught:
            run_jobs(script, bundle, jobs=1, directory=tmp_path, no_network=True)
        assert caught.value.exit_code == 1
        assert capsys.readouterr().err == "Preparing ...\n"


class TestSignals:
    """Signals to this very process, as `JobProcesses` receives them in the main thread."""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_passed_on_and_nothing_new_started(
        self, number: signal.Signals, script: Path, bundle: Path, tmp_path: Path
    ) -> None:
        code = "open('started', 'w').close()\ntime.sleep(60)"
        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        with (
            _SignalsAfter(tmp_path / "job-0002" / "started", number),
            pytest.raises(JobsInterruptedError) as caught,
        ):
            run_jobs(script, bundle, jobs=4, directory=tmp_path, arguments=[code], parallel=2)
        assert caught.value.exit_code == 130
        assert [result.index for result in caught.value.results] == [1, 2]
        assert [result.signal for result in caught.value.results] == [number, number]
        assert caught.value.message == "interrupted: 0 of 4 jobs done, 2 ended early, 2 not started"
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers

    def test_whole_process_groups_are_reached(
        self, script: Path, bundle: Path, tmp_path: Path
    ) -> None:
        code = (
            "import subprocess\n"
            "child = subprocess.Popen(['sleep', '60'])\n"
            "open('started', 'w').write(str(child.pid))\n"
            "child.wait()\n"
        )
        started = tmp_path / "job-0001" / "started"
        with _SignalsAfter(started, signal.SIGTERM), pytest.raises(JobsInterruptedError):
            run_jobs(script, bundle, jobs=1, directory=tmp_path, arguments=[code])
        _wait_until(lambda: not _is_running(int(started.read_text())))

    @pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
    def test_jobs_that_stay_are_killed(
        self,
        signals: list[signal.Signals],
        script: Path,
        bundle: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(processes, "_GRACE_SECONDS", 0.3 if len(signals) == 1 else 60)
        code = (
            "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
            "print('working', flush=True); open('started', 'w').close()\ntime.sleep(60)"
        )
        with (
            _SignalsAfter(tmp_path / "job-0001" / "started", *signals),
            pytest.raises(JobsInterruptedError) as caught,
        ):
            run_jobs(script, bundle, jobs=1, directory=tmp_path, arguments=[code])
        (result,) = caught.value.results
        assert result.state == "killed by SIGKILL"
        assert result.tail == "working"

    def test_a_job_may_finish_its_work(self, script: Path, bundle: Path, tmp_path: Path) -> None:
        code = (
            "signal.signal(signal.SIGTERM, lambda *_: (open('saved', 'w').close(), sys.exit(0)))\n"
            "open('started', 'w').close()\ntime.sleep(60)"
        )
        with (
            _SignalsAfter(tmp_path / "job-0001" / "started", signal.SIGTERM),
            pytest.raises(JobsInterruptedError, match="1 of 1 jobs done") as caught,
        ):
            run_jobs(script, bundle, jobs=1, directory=tmp_path, arguments=[code])
        assert caught.value.results[0].files == ("saved", "started")


def test_run_here_is_the_script(script: Path, bundle: Path, tmp_path: Path) -> None:
    code = f"""
import json, os, sys
from pathlib import Path
from offline_bundle.runner.engines.local.launch import run_here
print(json.dumps([os.getpid(), os.getcwd()]))
run_here(Path({str(script)!r}), Path({str(bundle)!r}), arguments=sys.argv[1:], options=["-q"])
"""
    body = "import json; print(json.dumps([os.getpid(), os.getcwd()])); print(sys.stdin.read()); sys.exit(42)"
    done = subprocess.run(
        [sys.executable, "-c", code, body],
        input="in",
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(pool.__file__).parents[1])},
    )
    before, after, said = done.stdout.splitlines()
    assert json.loads(before) == json.loads(after)
    assert (done.returncode, said, done.stderr) == (42, "in", "")


class _SignalsAfter:
    """Sends signals to this process once *path* is there."""

    def __init__(self, path: Path, *numbers: signal.Signals) -> None:
        self._thread = threading.Thread(target=self._send, args=[path, numbers])

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    @staticmethod
    def _send(path: Path, numbers: tuple[signal.Signals, ...]) -> None:
        _wait_until(path.exists)
        for number in numbers:
            time.sleep(0.1)
            os.kill(os.getpid(), number)


def _wait_until(condition: object, seconds: float = 20) -> None:
    assert callable(condition)
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError
        time.sleep(0.02)


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process_id}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")
