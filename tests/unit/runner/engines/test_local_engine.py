"""Jobs by this machine: the same commands, values, states and results as with the other engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from offline_bundle.runner.cli.jobs import jobs_command
from offline_bundle.runner.cli.submit import submit_command
from tests.support.local_engine_cases import bundle, cache, run, user

__all__ = ["bundle", "cache", "user"]


pytestmark = pytest.mark.measured


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--no-wait"], "local jobs end with this command"),
        (
            ["-U", "https://hps.example"],
            "--url is an option of the engine hps: add --engine hps, or leave it out",
        ),
        (
            ["--partition", "main"],
            "--partition is an option of the engine slurm: add --engine slurm, or leave it out",
        ),
        (["--memory", "1GiB"], "--memory is not supported by --engine local"),
        (["--output", "../x"], "leaves the job's directory"),
        (["--input", "."], "contains the script: name the files or folders in it"),
    ],
)
def test_bad_usage(
    bundle: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(submit_command, "eval.py", "--engine", "local", "--bundle", bundle, *arguments) == 2
    assert said in capsys.readouterr().err
    assert not Path("eval-results").exists()


def test_a_bundle_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(submit_command, "eval.py", "--engine", "local") == 2
    assert "--engine local requires --bundle DIR" in capsys.readouterr().err
    assert run(submit_command, "eval.py", "--engine", "local", "--bundle", "none") == 2
    assert "is not a bundle" in capsys.readouterr().err
    assert not Path("eval-results").exists()


def test_jobs_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert run(jobs_command, "empty", "--engine", "local") == 2
    assert "no jobs in" in capsys.readouterr().err
    assert run(jobs_command, "--engine", "local") == 2
    assert "name the results folder" in capsys.readouterr().err
