"""The line that says why a job failed, and jobs that failed alike."""

from __future__ import annotations

import pytest

from offline_bundle.runner.follow import Outcome
from offline_bundle.runner.model import Counts, Failure
from offline_bundle.runner.results.failures import error_line, group_failures


@pytest.mark.parametrize(
    ("tail", "line"),
    [
        ("step 1\nKeyError: 'x'\n", "KeyError: 'x'"),
        ("no such mesh\nexit code 1", "no such mesh"),
        (
            "KeyError: 'x'\nevaluator: ScriptError: eval.py failed: The command ended with "
            "return code 1",
            "KeyError: 'x'",
        ),
        (
            "no mesh\nevaluator: ScriptError: the command ended with return code 1\n"
            "evaluator: the output file plot.png is missing",
            "no mesh",
        ),
        ("done\nevaluator: the output file plot.png is missing", None),
        ("step 7\nkilled by SIGKILL", "killed by SIGKILL"),
        ("exit code 3", "exit code 3"),
        ("", ""),
    ],
)
def test_the_scripts_own_last_line_is_the_error(tail: str, line: str | None) -> None:
    assert error_line(tail) == (tail.splitlines()[-1] if line is None else line)


def test_jobs_with_the_same_state_and_error_are_a_group() -> None:
    failures = [Failure("job-0001", "failed", "no mesh\nexit code 2", "n2", "12_1", 3.25)]
    failures += [
        Failure(f"job-000{n}", "failed", f"at {n}\nno space", f"n{n % 2}") for n in range(2, 9)
    ]
    groups = group_failures(failures)
    assert [(group.message, len(group.failures)) for group in groups] == [
        ("no space", 7),
        ("no mesh", 1),
    ]
    outcome = Outcome("1", "study", Counts({"done": 1, "failed": 20}), tuple(failures), None)
    problems = str(outcome.error()).splitlines()
    assert problems[1:] == [
        "  job-0002, job-0003, job-0004, job-0005, job-0006 and 2 more: failed on n0, n1, "
        "for the same reason",
        "    | at 2",
        "    | no space",
        "  job-0001: failed on n2 (job 12_1) after 3.2 s",
        "    | no mesh",
        "    | exit code 2",
        "  … and 12 more",
    ]
