from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.cli import run_command_line
from offline_bundle.runner.cli.jobs import jobs_command
from offline_bundle.runner.cli.submit import submit_command
from offline_bundle.runner.hps_server import EmbeddedHps
from offline_bundle.wheelhouse.runtime.manifest import Manifest, render_checksums
from tests.support.archives import small_disk
from tests.support.bundles import BundleScript, make_bundle, read_manifest
from tests.support.jobs import CLIENT_LEAKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

pytestmark = pytest.mark.filterwarnings(CLIENT_LEAKS)

ROOT = Path(__file__).parents[2]
PASSWORD = "a-secret-of-this-test"
BODY = """
import json, pathlib, alpha
file = pathlib.Path("input_parameters.json")
n = json.loads(file.read_text())["n"] if file.exists() else 1
print("job with", n)
if n == 2:
    raise SystemExit("two is not a number of mine")
pathlib.Path("plot.txt").write_text(str(n))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_bundle(
        tmp_path_factory.mktemp("bundles") / "bundle", {"eval": BundleScript(body=BODY)}
    )
    manifest = read_manifest(folder)
    manifest["files"]["SHA256SUMS"] = {}
    document = json.dumps(manifest).encode()
    (folder / "bundle.json").write_bytes(document)
    (folder / "SHA256SUMS").write_bytes(render_checksums(Manifest.from_json(document), document))
    return folder


@pytest.fixture(scope="module")
def hps(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[EmbeddedHps]:
    data = tmp_path_factory.mktemp("hps")
    with EmbeddedHps(data=data, password=PASSWORD, slots=2, bundle=bundle) as hps:
        yield hps


@pytest.fixture
def script(bundle: Path, hps: EmbeddedHps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundled script, in a directory of the user's, who has set up the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPS_URL", hps.url)
    monkeypatch.setenv("HPS_PASSWORD", PASSWORD)
    return Path(shutil.copy(bundle / "scripts" / "eval.py", tmp_path / "eval.py"))


def run(command: click.Command, *arguments: object) -> int:
    return run_command_line(command, [str(argument) for argument in arguments], "offline-bundle")


def test_submit_waits_downloads_and_says_what_came_of_it(
    script: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(
        submit_command,
        script,
        "--bundle",
        bundle,
        "-j",
        2,
        "--output",
        "plot.txt",
        "--download",
        "out",
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "2 evaluated" in said.out
    assert "2 of 2 jobs: 2 evaluated" in said.err
    assert "; open out/index.html" in said.out
    assert Path("out/job-0002/plot.txt").read_text() == "1"
    assert PASSWORD not in said.out + said.err


def test_failed_jobs_are_exit_code_8_with_the_launchers_words(
    script: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("values.csv").write_text("n\n1\n2\n")
    code = run(
        submit_command, script, "--bundle", bundle, "--values", "values.csv", "--output", "plot.txt"
    )
    said = capsys.readouterr()
    assert code == 8
    assert "error: 1 of 2 jobs of eval - 2 jobs failed\n  job-0002: failed\n" in said.err
    assert "two is not a number of mine" in said.err
    assert "hint: download all output and files with --download DIR\n" in said.err


def test_json_holds_it_all(script: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(
        submit_command,
        script,
        "--bundle",
        bundle,
        "-j",
        1,
        "--set",
        "n=2",
        "--download",
        "out",
        "--json",
    )
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert code == document["error"]["code"] == 8
    assert document["jobs"] == {"total": 1, "states": {"failed": 1}}
    assert document["failed"][0]["job"] == "job-0001"
    assert document["download"]["files"] == 1
    assert said.err == ""


def test_a_bundle_that_the_nodes_cannot_read_is_named(
    script: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(submit_command, script, "--bundle", tmp_path / "not-there", "-j", 1) == 8
    assert f"no bundle at OFFLINE_BUNDLE={tmp_path}/not-there" in capsys.readouterr().err


def test_an_output_that_is_missing_is_named(
    script: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(submit_command, script, "--bundle", bundle, "-j", 1, "--output", "other.txt") == 8
    assert "the output file other.txt (other.txt) is missing" in capsys.readouterr().err


def test_unknown_software_is_bad_usage(
    script: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(submit_command, script, "--bundle", bundle, "--software", "uvx") == 2
    assert "offers the software uvx; they offer uv" in capsys.readouterr().err


def test_a_wrong_password_is_bad_usage_and_never_shown(
    script: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(submit_command, script, "--bundle", bundle, "-p", "my-wrong-one", "--json") == 2
    said = capsys.readouterr()
    assert "does not accept this username" in json.loads(said.out)["error"]["message"]
    assert "my-wrong-one" not in said.out + said.err


@pytest.mark.parametrize(
    ("fault", "exit_code", "said"),
    [
        ("port", 1, "cannot be reached: Connection refused\nhint: check the address and the port"),
        (
            "path",
            2,
            "{url} is not an HPS server: 404 Not Found\nhint: check the path of the URL, usually /hps",
        ),
        (
            "certificate",
            2,
            "is not trusted: unable to get local issuer certificate\nhint: --ca-file FILE names",
        ),
    ],
)
def test_a_server_that_is_not_the_one_says_what_to_do(
    *,
    fault: str,
    exit_code: int,
    said: str,
    script: Path,
    hps: EmbeddedHps,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with contextlib.ExitStack() as stack:
        url = hps.url.replace("/hps", "/rep")
        if fault == "port":
            taken = stack.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/hps"
        if fault == "certificate":
            url = stack.enter_context(
                EmbeddedHps(data=tmp_path / "secure", tls=True, software={})
            ).url
        assert run(submit_command, script, "-U", url, "-j", 1) == exit_code
    assert said.format(url=url) in capsys.readouterr().err


def test_a_disk_that_is_full_when_results_come_is_exit_code_4(
    script: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.write_text(
        script.read_text().replace("write_text(str(n))", "write_bytes(bytes(500_000))")
    )
    options = ["--bundle", bundle, "-j", 1, "--name", "large", "--output", "plot.txt"]
    with small_disk(tmp_path / "disk", 300_000) as disk:
        assert run(submit_command, script, *options, "--download", disk / "out") == 4
        said = capsys.readouterr().err
        assert "error: the disk is full: the next files in " in said
        assert (
            "hint: free some space, or name a directory on another disk, and download again" in said
        )
    assert run(jobs_command, "large", "--download", tmp_path / "out") == 0
    assert (tmp_path / "out" / "job-0001" / "plot.txt").stat().st_size == 500_000


def test_come_back_later(script: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "--bundle",
        bundle,
        "-j",
        2,
        "--output",
        "plot.txt",
        "--name",
        "for later",
        "--download",
        "out",
    )
    assert run(submit_command, script, *arguments, "--no-wait") == 0
    said = capsys.readouterr().out
    assert not Path("out").exists()
    resume_arguments = said.splitlines()[-1].split()
    assert resume_arguments[:2] == ["offline-bundle", "jobs"]
    assert PASSWORD not in said
    assert run(jobs_command, *resume_arguments[2:]) == 0
    assert Path("out/job-0001/plot.txt").exists()
    assert run(jobs_command, "for later", "-q") == 0
    capsys.readouterr()
    assert run(jobs_command) == 0
    assert re.search("for later +2 evaluated", capsys.readouterr().out)
    assert run(jobs_command, "--json") == 0
    assert json.loads(capsys.readouterr().out)["projects"][0]["name"] == "for later"
    assert run(jobs_command, "no such project") == 2
    assert "list the projects with `offline-bundle jobs`" in capsys.readouterr().err


def test_a_directory_in_use_is_refused_before_anything_is_submitted(
    script: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    Path("out/mine").write_text("")
    assert (
        run(submit_command, script, "--bundle", bundle, "--name", "refused", "--download", "out")
        == 2
    )
    assert "nothing was submitted" in capsys.readouterr().err
    assert run(jobs_command, "refused") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--values", "eval.py", "-j", "2"], "--values defines one job per row: leave out -j"),
        (
            ["--embedded", "--bundle", ".", "--no-wait"],
            "--no-wait: the embedded HPS ends with this command; leave it out",
        ),
        (["--embedded"], "--embedded requires --bundle DIR"),
        (["--ship-bundle"], "--ship-bundle requires --bundle DIR"),
        (["--embedded", "--bundle", "."], "is not a bundle: it has no bundle.json"),
        (["--ship-bundle", "--bundle", "."], "is not a bundle: it has no bundle.json"),
        (["--memory", "much"], "'much' is not a size: use e.g. 700M or 4G"),
        (["--env", "MODE"], "--env 'MODE' is not NAME=VALUE"),
        (["--set", "n"], "--set is not valid\n  'n' is not NAME=VALUE"),
        (["--url", "localhost"], "localhost is not the URL of a server"),
        (["--ca-file", "none.pem"], "none.pem"),
        (["--output", "../x"], "leaves the job's directory"),
    ],
)
def test_bad_usage_is_exit_code_2(
    script: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(submit_command, script, *arguments) == 2
    assert said in capsys.readouterr().err


def test_sizes_are_what_people_write(script: Path) -> None:
    del script
    sizes = next(option for option in submit_command.params if option.name == "memory").type
    written = ["100MiB", "1gb", "0.5 GiB", "2K", "77"]
    assert [sizes.convert(text, None, None) for text in written] == [
        100 * 2**20,
        2**30,
        2**29,
        2048,
        77,
    ]


@pytest.mark.parametrize("ways", [(), ("--ship-bundle",)])
def test_without_an_hps_at_hand(
    ways: tuple[str, ...],
    script: Path,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
    own_home: Path,
) -> None:
    code = run(
        submit_command,
        script,
        "--bundle",
        bundle,
        "--embedded",
        "-j",
        3,
        "--output",
        "plot.txt",
        *ways,
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "3 evaluated" in said.out
    assert len(list(Path("eval-results").glob("job-*/plot.txt"))) == 3
    consoles = [path.read_text() for path in Path("eval-results").glob("job-*/console_output.txt")]
    assert sum("Unpack " in console for console in consoles) == len(ways)
    unpacked = list(own_home.glob(".cache/offline-bundle/bundles/*/bundle.json"))
    assert len(unpacked) == len(ways)


def start(*arguments: object) -> subprocess.Popen[str]:
    code = (
        "import sys; from offline_bundle.cli import run_command_line; "
        "from offline_bundle.runner.cli.submit import submit_command; "
        "sys.exit(run_command_line(submit_command, sys.argv[1:], 'submit'))"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.measured
def test_ctrl_c_leaves_the_jobs_running_and_says_how_to_return(
    script: Path, bundle: Path, hps: EmbeddedHps, capsys: pytest.CaptureFixture[str]
) -> None:
    script.write_text(
        script.read_text().replace('print("job', 'import time; time.sleep(2); print("job')
    )
    process = start(
        script, "--bundle", bundle, "-j", 2, "--name", "left alone", "--output", "plot.txt"
    )
    assert process.stderr
    said = process.stderr.readline()
    assert said.startswith("0 of 2 jobs: ")
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 130, rest
    assert "interrupted; the jobs of left alone continue" in rest
    assert f"-U {hps.url} -u repuser --wait" in rest
    assert PASSWORD not in rest
    assert run(jobs_command, "left alone", "--wait") == 0
    assert "2 evaluated" in capsys.readouterr().out


def test_the_example_is_a_page_to_copy_from(
    script: Path, bundle: Path, hps: EmbeddedHps, tmp_path: Path
) -> None:
    example = Path(shutil.copy(ROOT / "examples" / "python_uv" / "project_setup.py", tmp_path))
    script.write_text(script.read_text().replace("plot.txt", "plot.png"))
    options = [
        "--url",
        hps.url,
        "--username",
        hps.username,
        "--password",
        PASSWORD,
        "--num-jobs",
        "2",
    ]
    done = subprocess.run(
        [sys.executable, example, *options, "--bundle", bundle],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.parent.name for path in Path("plots").glob("*/plot.png")) == [
        "job-0001",
        "job-0002",
    ]
    assert PASSWORD not in done.stdout + done.stderr


def test_help_tells_whose_options_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(submit_command, "--help") == 0
    common, *sections = capsys.readouterr().out.split("\nWith --engine ")
    assert "--values CSV" in common
    assert "--partition" not in common
    assert [section.partition(":")[0] for section in sections] == [
        "hps",
        "slurm",
        "slurm or local",
        "local",
    ]
    assert run(jobs_command, "--help") == 0
    assert "\nWith --engine hps:\n  -U, --url" in capsys.readouterr().out


def test_help_is_fast_and_imports_no_client() -> None:
    code = "import sys, offline_bundle.runner.cli.submit; print([name for name in sys.modules if name.startswith(('ansys', 'httpx'))])"
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert time.monotonic() - begin < 5


def test_a_relative_bundle_is_named_so_that_jobs_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offline_bundle.runner.cli.submit import bundle_on_nodes

    (tmp_path / "bundle").mkdir()
    monkeypatch.chdir(tmp_path)
    assert bundle_on_nodes("bundle") == str(tmp_path / "bundle")
    assert bundle_on_nodes(r"S:\shared\bundle") == r"S:\shared\bundle"
    assert bundle_on_nodes(None) is None
