"""What every engine does alike: one suite, with the same assertions for each.

They run for every engine of the registry: `tests/support/engine_cases.py` starts it. HPS is the
embedded one.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from uv import find_uv_bin

from offline_bundle.cli import run_command_line
from offline_bundle.runner.cli.jobs import jobs_command
from offline_bundle.runner.cli.submit import submit_command
from offline_bundle.runner.engine import ENGINES, open_engine
from offline_bundle.runner.model import FAILED, SUCCEEDED
from tests.support.bundles import BundleScript, make_bundle
from tests.support.engine_cases import CASES
from tests.support.jobs import CLIENT_LEAKS
from tests.support.results_page_cases import page_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.engine_cases import EngineCase

pytestmark = pytest.mark.filterwarnings(CLIENT_LEAKS)

BODY = """
import alpha, json, os, pathlib, signal, sys
import helper


def write(name, text="x"):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

values = json.load(open("input_parameters.json"))
what = values["what"]
beside = pathlib.Path(__file__).parent
seen = {
    "values": values,
    "helper": helper.NAME,
    "input": open("data/values.csv").read(),
    "beside": (beside / "data" / "deep" / "mesh.txt").read_text(),
    "folder": sorted(path.name for path in pathlib.Path().iterdir() if path.suffix != ".json"
                     and path.name not in ("console_output.txt", "hps_exec_script.py",
                                          "offline_bundle_job.py", "__pycache__")),
    "variables": {name: os.environ.get(name) for name in
                  ("OFFLINE_BUNDLE_JOB", "OFFLINE_BUNDLE_JOBS", "MODE", "UV_OFFLINE")},
    "is_here": beside.resolve() == pathlib.Path.cwd().resolve() or __file__.startswith(os.getcwd()),
    "arguments": sys.argv[1:],
    "threads": os.environ.get("OMP_NUM_THREADS"),
    "included": (pathlib.Path(os.environ["OFFLINE_BUNDLE_DATA"]) / "model/weights").read_text(),
}
print("job", values["n"], what, flush=True)
if what == "raise":
    raise ValueError("no such mesh")
if what == "exit":
    sys.exit(3)
if what == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "pipe":
    os.mkfifo("plot.png")
elif what == "folder":
    pathlib.Path("plot.png").mkdir()
elif what != "missing":
    write("plot.png", "plot")
if what == "link":
    os.remove("plot.png")
    write("plot-1.dat", "linked")
    os.symlink("plot-1.dat", "plot.png")
if what == "outside":
    os.remove("plot.png")
    os.symlink("/etc/hostname", "plot.png")
write("tables/deep/table.csv", "1")
write("tables/a table.txt", "2")
os.symlink("tables", "linked")
write("part-1.dat")
write("part-2.dat")
write("part-x.dat")
write("scratch.npz")
write("extra.csv", "3")
write(".hidden.csv")
write("large.csv", "4" * 3000)
json.dump(seen, open("seen.json", "w"))
json.dump({"double": 2 * values["n"]}, open("output_parameters.json", "w"))
"""
OUTPUTS = ("plot.png", "part-[0-9].dat", "tables/", "seen.json")


@dataclass(frozen=True)
class Submitted:
    """The outcome of `submit --json`, and the files that the page links to."""

    code: int
    document: Mapping[str, Any]
    directory: Path

    @property
    def explained(self) -> str:
        """The whole document, for an assertion: the repr of a mapping is cut short there."""
        return json.dumps(self.document, indent=1)

    @property
    def links(self) -> dict[str, list[str]]:
        """Job → its files on the page, sorted."""
        return {
            job: sorted(unquote(url).removeprefix(f"{job}/") for url, *_ in files)
            for job, *_, files, _ in page_data(self.directory / "index.html")["jobs"]
        }

    def seen(self, job: str) -> dict[str, Any]:
        """What the script of a job has seen."""
        found: dict[str, Any] = json.loads((self.directory / job / "seen.json").read_text())
        return found


@pytest.fixture(scope="module", params=list(ENGINES))
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineCase]:
    with CASES[request.param](tmp_path_factory.mktemp(request.param)) as case:
        yield case


in_folder = pytest.mark.parametrize(
    "engine", [name for name in ENGINES if name != "hps"], indirect=True, scope="module"
)
"""Engines whose jobs work in the results folder: other commands find them there."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = BundleScript(body=BODY)
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    weights = folder / "data/model/weights"  # as of `build --include`
    weights.parent.mkdir(parents=True)
    weights.write_text("trained")
    return make_bundle(folder, {"eval": script})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def folder(  # noqa: PLR0917 - fixtures add up
    own_home: Path,
    engine: EngineCase,
    bundle: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder of the user's, with a script, its module and its data."""
    del own_home  # which clears the environment first
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFFLINE_BUNDLE_UV", find_uv_bin())
    monkeypatch.setenv("OFFLINE_BUNDLE_CACHE", str(cache))
    for name, value in engine.variables.items():
        monkeypatch.setenv(name, value)
    shutil.copy(bundle / "scripts" / "eval.py", tmp_path / "eval.py")
    (tmp_path / "helper.py").write_text("import second\nNAME = second.NAME\n")
    (tmp_path / "second.py").write_text("NAME = 'second'\n")
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "values.csv").write_text("a,b\n")
    (tmp_path / "data" / "deep" / "mesh.txt").write_text("mesh")
    (tmp_path / "input.csv").write_text("an input, no output")
    return tmp_path


def submit(
    engine: EngineCase,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
    *arguments: str,
    whats: tuple[str, ...] = ("fine",),
) -> Submitted:
    """Submit one job for each of *whats*, with all inputs."""
    rows = [f"{what},{number / 2}" for number, what in enumerate(whats, 1)]
    Path("rows.csv").write_text("\n".join(["what,n", *rows, ""]))
    inputs = ["helper.py", "second.py", "data", "input.csv"]
    words = [
        *("eval.py", "--bundle", str(bundle), *engine.arguments, "--values", "rows.csv"),
        *(word for path in inputs for word in ("--input", path)),
        *("--download", "out", "--json", *arguments),
    ]
    code = run_command_line(submit_command, words, "offline-bundle")
    said = capsys.readouterr()
    return Submitted(code, json.loads(said.out), Path("out"))


def refused(
    engine: EngineCase, bundle: Path, capsys: pytest.CaptureFixture[str], *arguments: str
) -> str:
    """Return the message of a submission that is refused."""
    Path("rows.csv").write_text("what,n\nfine,1\n")
    words = ["eval.py", "--bundle", str(bundle), *engine.arguments, "--values", "rows.csv"]
    code = run_command_line(
        submit_command, [*words, "--download", "none", *arguments], "offline-bundle"
    )
    assert code == 2
    return capsys.readouterr().err


def test_inputs_values_and_variables(
    engine: EngineCase, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each job sees its values, the inputs by their relative paths, and the same variables."""
    outputs = [word for pattern in OUTPUTS for word in ("--output", pattern)]
    more = ["--env", "MODE=a b'c", "--output-value", "double"]
    done = submit(engine, bundle, capsys, *outputs, *more, whats=("fine", "link"))
    assert done.code == 0, done.explained
    assert done.document["jobs"]["states"].get(SUCCEEDED, 0) == 2
    seen = done.seen("job-0002")
    seen.pop("threads")
    assert seen == {
        "values": {"what": "link", "n": 1.0},
        "helper": "second",
        "input": "a,b\n",
        "beside": "mesh",
        "folder": ["data", "eval.py", "helper.py", "input.csv", "second.py"],
        "variables": {
            "OFFLINE_BUNDLE_JOB": "2",
            "OFFLINE_BUNDLE_JOBS": "2",
            "MODE": "a b'c",
            "UV_OFFLINE": "1",
        },
        "is_here": True,
        "arguments": [],
        "included": "trained",
    }
    files = ["console_output.txt", "part-1.dat", "part-2.dat", "plot.png", "seen.json"]
    tables = ["tables/a table.txt", "tables/deep/table.csv"]
    assert done.links == {job: [*files, *tables] for job in ("job-0001", "job-0002")}
    assert (done.directory / "job-0002" / "plot.png").read_text() == "linked"
    assert done.document["download"]["files"] == 14
    page = page_data(done.directory / "index.html")
    assert sorted(page["values"]) == ["double", "n", "what"]
    assert [row[6][page["values"].index("double")] for row in page["jobs"]] == [1.0, 2.0]


def test_arguments_and_a_command_before_the_script(
    engine: EngineCase, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Values are filled in for each job; threads follow the cores, where jobs can have some."""
    cores = [] if engine.name == "local" else ["--cores", "{n}"]
    done = submit(
        *(engine, bundle, capsys, "--output", "seen.json", *cores),
        *("--run-with", "env MODE='by a command'", "--", "--n", "{n}", "a 'b' $c", "{{n}}={what}"),
        whats=("fine", "missing", "fine"),
    )
    assert done.code == 0, done.explained
    seen = [done.seen(f"job-000{number}") for number in (1, 2)]
    assert [each["arguments"] for each in seen] == [
        ["--n", "0.5", "a 'b' $c", "{n}=fine"],
        ["--n", "1.0", "a 'b' $c", "{n}=missing"],
    ]
    assert seen[0]["variables"]["MODE"] == "by a command"
    threads = [done.seen(f"job-000{number}")["threads"] for number in (1, 2, 3)]
    assert threads == (["1", "1", "2"] if cores else [None] * 3)  # of 0.5, 1 and 1.5 cores
    assert "the argument '{m}' names 'm'; the values are what, n" in refused(
        engine, bundle, capsys, "--", "{m}"
    )
    if cores:
        reason = "--memory {m}: there is no such value; the values are what, n"
        assert reason in refused(engine, bundle, capsys, "--memory", "{m}")


def test_failures(engine: EngineCase, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception, an exit code, a signal and a missing output are failures, with a reason."""
    whats = ("raise", "fine", "exit", "killed", "missing", "pipe", "folder", "outside")
    done = submit(engine, bundle, capsys, "--output", "plot.png", whats=whats)
    assert done.code == 8
    states = done.document["jobs"]["states"]
    assert states.get(SUCCEEDED, 0) == 1, done.explained
    assert sum(states.get(state, 0) for state in FAILED) == 7
    consoles = {failed["job"]: failed["console"] for failed in done.document["failed"]}
    assert "ValueError: no such mesh" in consoles["job-0001"]
    assert "job 1.5 exit" in consoles["job-0003"]
    assert "job 2.0 killed" in consoles["job-0004"]
    for job in ("job-0005", "job-0006", "job-0007", "job-0008"):
        assert "error: output is missing: plot.png" in consoles[job]
        assert "plot.png" not in done.links[job]


def test_without_output_images_and_tables_are_collected(
    engine: EngineCase, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No input, nothing large, nothing in folders; and no file is required."""
    done = submit(engine, bundle, capsys, "--output-limit", "2000", whats=("fine", "missing"))
    assert done.code == 0, done.explained
    both = ["console_output.txt", "extra.csv"]
    assert done.links == {"job-0001": [*both, "plot.png"], "job-0002": both}


def test_large_outputs_linked_folders_inputs_and_files_of_engines_are_missing(
    engine: EngineCase, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = ("linked/", "l*/*.txt", "*.txt", "*.py", "input*.json", "*.csv", ".j*")
    outputs = [word for pattern in ("large.csv", *missing) for word in ("--output", pattern)]
    done = submit(engine, bundle, capsys, *outputs, "--output-limit", "2000")
    assert done.code == 8
    assert done.links == {"job-0001": ["console_output.txt", "extra.csv"]}
    (failed,) = done.document["failed"]
    reason = "error: output is missing, or larger than 2,000 bytes: large.csv"
    assert reason in failed["console"]
    for pattern in {*missing} - {"*.csv"}:
        assert f"2,000 bytes: {pattern}\n" in f"{failed['console']}\n"


def test_a_local_module_that_is_no_input_is_offered(
    engine: EngineCase, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is started, and nothing left."""
    words = ["eval.py", "--bundle", str(bundle), *engine.arguments, "--download", "out"]
    assert run_command_line(submit_command, [*words, "--input", "data"], "offline-bundle") == 2
    said = capsys.readouterr().err
    assert "eval.py imports helper.py" in said
    assert "helper.py imports second.py" in said
    assert "hint: add --input helper.py --input second.py" in said
    assert not os.path.lexists("out")


@in_folder
def test_two_commands_start_a_failed_job_again_once(
    engine: EngineCase, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second one has read that the job failed before the first one starts it again."""
    Path("helper.py").write_text("import sys\nsys.exit(3)\n")
    assert submit(engine, bundle, capsys).code == 8
    (Path("out") / ".submission/inputs/helper.py").write_text("NAME = ''\n")
    with open_engine(engine.name) as second:
        project = second.find("out")
        assert project.counts.by_state == {"failed": 1}
        arrays = second.scheduler_jobs(project)
        words = ["out", "--engine", engine.name, "--retry-failed", "--json"]
        capsys.readouterr()
        assert run_command_line(jobs_command, words, "offline-bundle") == 0
        document = json.loads(capsys.readouterr().out)
        assert set(document["project"]["scheduler_jobs"]) > set(arrays) or not arrays
        assert second.retry(project, lambda *_: True) == 0
        assert second.poll(project).by_state == {"done": 1}
        assert list(second.scheduler_jobs(project)) == document["project"]["scheduler_jobs"]
        assert (Path("out") / "job-0001/extra.csv").read_text() == "3"
        # of a third command, which has just started the job again
        attempt = Path("out/.submission/attempts/job-0001.0")
        attempt.mkdir(parents=True)
        Path("out/job-0001").rename("away")
        second.results(project, Path("out"))
        assert attempt.is_dir()
        Path("away").rename("out/job-0001")
        second.results(project, Path("out"))
        assert not attempt.is_dir()
