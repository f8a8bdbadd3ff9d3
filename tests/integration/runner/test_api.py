"""The Python interface with real jobs on this machine and on an embedded HPS."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner import Jobs, submit
from offline_bundle.wheelhouse.runtime.errors import InputError, JobsFailedError
from tests.support.jobs import CLIENT_LEAKS
from tests.support.local_engine_cases import bundle, cache, user

if TYPE_CHECKING:
    from offline_bundle.runner.model import Counts

__all__ = ["bundle", "cache", "user"]

pytestmark = pytest.mark.filterwarnings(CLIENT_LEAKS)


def test_jobs_are_submitted_awaited_and_run_again(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, flag = Path("eval.py"), Path("mended").absolute()
    code = f'if what == "fail" and not os.path.exists({str(flag)!r})'
    script.write_text(script.read_text().replace('if what == "fail"', code))
    rows = [{"what": "plot"}, {"what": "fail"}]
    seen: list[Counts] = []
    with submit(
        "eval.py", bundle=bundle, engine="local", values=rows, inputs=["mesh.txt"], parallel=1
    ) as jobs:
        outcome = jobs.wait(seen.append)
        with pytest.raises(JobsFailedError, match="eval - 2 jobs: 1 of 2 jobs failed"):
            outcome.raise_if_failed()
        assert (jobs.failures[0].job, jobs.name) == ("job-0002", "eval - 2 jobs")
        assert jobs.results
        assert jobs.results.page.samefile("eval-results/index.html")
    assert seen[-1].by_state == {"done": 1, "failed": 1}
    flag.touch()
    with Jobs.find("eval-results") as jobs:
        assert jobs.id == str(Path("eval-results").absolute())
        assert jobs.retry_failed(["job-0002"]) == 1
        assert jobs.wait().counts.by_state == {"done": 2}
        assert "2 of 2 jobs: 2 done\n" in capsys.readouterr().err
        assert repr(jobs) == "<Jobs eval - 2 jobs: 2 done>"
        assert re.search('<progress max="2" value="2">.*2 done', jobs._repr_html_())
        jobs.delete()
    assert not Path("eval-results").exists()


def test_jobs_are_cancelled_and_end_with_their_submission(bundle: Path) -> None:
    with submit("eval.py", bundle=bundle, engine="local", values=[{"what": "sleep"}]) as jobs:
        assert jobs.counts.under_way == 1
        assert jobs.cancel().under_way == 0
    with Jobs.find("eval-results") as jobs:
        assert not jobs.counts.under_way


def test_an_embedded_hps_runs_them_too(bundle: Path) -> None:
    rows = [{"what": "nothing"}]
    with submit("eval.py", bundle=bundle, embedded=True, values=rows, download="out") as jobs:
        jobs.wait().raise_if_failed()
    assert "<dt>bundle</dt>" in Path("out/index.html").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "lsf"}, "there is no engine lsf"),
        ({"engine": "local"}, "--engine local requires --bundle DIR"),
        ({"engine": "local", "queue": "long"}, "the engine local has no option queue"),
        ({"values": []}, "there are no rows of values"),
        ({"values": [{"x": 1}, {"x": "a", "y": 1}]}, "row 2 has the values x, y"),
        ({}, "no HPS server is named"),
    ],
)
def test_what_cannot_be_submitted_is_refused_before_anything_starts(
    options: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        submit("eval.py", **options)  # type: ignore[arg-type]
    assert not Path("eval-results").exists()
