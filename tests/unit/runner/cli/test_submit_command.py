from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path

import pytest

from offline_bundle.runner.cli.jobs import jobs_command
from offline_bundle.runner.cli.submit import submit_command
from offline_bundle.runner.engine import open_engine
from offline_bundle.runner.hps_server import EmbeddedHps
from offline_bundle.wheelhouse.runtime.errors import InputError
from tests.support.jobs import CLIENT_LEAKS
from tests.support.submit_command_cases import bundle, hps, run, script

__all__ = ["bundle", "hps", "script"]


pytestmark = pytest.mark.filterwarnings(CLIENT_LEAKS)


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
            "{url} is not an HPS server: 404 Not Found\nhint: check the path of the URL, "
            "usually /hps",
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


def test_help_tells_whose_options_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(submit_command, "--help") == 0
    common, *sections = capsys.readouterr().out.split("\nWith --engine ")
    assert "--values CSV" in common
    assert "--partition" not in common
    assert [section.partition(":")[0] for section in sections] == [
        "hps",
        "slurm",
        "slurm or pbs",
        "slurm or sge or pbs or local",
        "slurm or sge or pbs",
        "sge or pbs",
        "sge",
        "pbs",
        "local",
    ]
    assert run(jobs_command, "--help") == 0
    assert "\nWith --engine hps:\n  -U, --url" in capsys.readouterr().out


def test_a_relative_bundle_is_named_so_that_jobs_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offline_bundle.runner.submissions import bundle_on_nodes

    (tmp_path / "bundle").mkdir()
    monkeypatch.chdir(tmp_path)
    assert bundle_on_nodes("bundle") == str(tmp_path / "bundle")
    assert bundle_on_nodes(r"S:\shared\bundle") == r"S:\shared\bundle"
    assert bundle_on_nodes(None) is None


def test_without_a_server_the_ways_to_name_one_are_listed(
    script: Path,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("HPS_URL")
    assert run(submit_command, script, "--bundle", bundle) == 2
    assert run(jobs_command) == 2
    for said in capsys.readouterr().err.split("error: ")[1:]:
        assert said.startswith("no HPS server is named\nhint: ")
        assert all(word in said for word in ("-U", "HPS_URL", "--embedded", "--engine"))


@pytest.mark.parametrize("job", ["job-0003", "3", "0", "eval"])
def test_a_console_of_no_job_is_refused_before_anything_is_submitted(
    script: Path, bundle: Path, capsys: pytest.CaptureFixture[str], job: str
) -> None:
    words = ("--bundle", bundle, "--engine", "local", "-j", 2, "--download", "out")
    assert run(submit_command, script, *words, "--follow", job) == 2
    assert f"there is no job {job}\nhint: name one of job-0001 to job-0002" in (
        capsys.readouterr().err
    )
    assert not Path("out").exists()


def test_a_path_without_results_asks_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(jobs_command, "/no/such/folder", "-U", "http://127.0.0.1:1/hps") == 2
    assert "error: /no/such/folder does not exist\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cancel",), "--cancel requires PROJECT"),
        (("beam", "--only", "lost"), "--only requires --retry-failed"),
        (("beam", "--delete", "--retry-failed"), "--cancel and --delete exclude --retry-failed"),
        (("beam", "--cancel", "--wait"), "--cancel and --delete exclude --wait"),
    ],
)
def test_actions_that_exclude_each_other(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(jobs_command, *words) == 2
    assert said in capsys.readouterr().err


def test_an_engine_opens_with_defaults_and_refuses_unknown_options() -> None:
    with pytest.raises(InputError, match="no HPS server is named"), open_engine("hps"):
        pass
    with (
        pytest.raises(InputError, match="the engine local has no option queue") as raised,
        open_engine("local", {"queue": "long"}),
    ):
        pass
    assert raised.value.hint == "its options are no_network, parallel, python"
