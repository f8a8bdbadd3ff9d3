from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from uv import find_uv_bin

from offline_bundle.runner.engines.hps.connection.session import connect
from offline_bundle.runner.engines.hps.jobs import HpsEngine
from offline_bundle.runner.engines.hps.projects import find_project, list_projects
from offline_bundle.runner.engines.hps.submit import JOBS_PER_REQUEST, Submission, submit
from offline_bundle.runner.follow import follow, watch
from offline_bundle.runner.hps_server import EmbeddedHps
from offline_bundle.runner.request import check_request
from offline_bundle.runner.values import plan_values
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError, NotInBundleError
from offline_bundle.wheelhouse.signing import sign
from tests.support.bundles import BundleScript, make_bundle
from tests.support.jobs import CLIENT_LEAKS, embedded, make_submission, server_of, write_script
from tests.support.site_policy import FORGED, forge, make_site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from offline_bundle.runner.engines.hps.connection.session import Session

pytestmark = pytest.mark.filterwarnings(CLIENT_LEAKS)


@pytest.fixture(scope="module")
def hps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHps]:
    yield from embedded(tmp_path_factory.mktemp("hps"))


@pytest.fixture(scope="module")
def session(hps: EmbeddedHps) -> Iterator[Session]:
    with connect(server_of(hps)) as session:
        yield session


def test_values_go_to_the_jobs_and_come_back(session: Session, tmp_path: Path) -> None:
    body = """
import json
values = json.load(open("input_parameters.json"))
assert values["material"] == "steel" and values["fast"] is True and values["count"] == 3
json.dump({"twice": 2 * values["thickness"]}, open("output_parameters.json", "w"))
open("plot.png", "w").write("x")
"""
    table = tmp_path / "values.csv"
    table.write_text("thickness,count\n0.5,3\n1.5,3\n")
    submission = make_submission(
        tmp_path,
        body,
        values=plan_values(["material=steel", "fast=true"], table, jobs=1),
        output_values=("twice",),
        environment={"MODE": "test"},
    )
    outcome = follow(
        HpsEngine(session),
        find_project(session, submit(session, submission).project_id),
        directory=tmp_path / "out",
    )
    outcome.raise_if_failed()
    assert outcome.results
    assert [dict(job.values) for job in outcome.results.jobs] == [
        {"material": "steel", "fast": True, "thickness": 0.5, "count": 3, "twice": 1.0},
        {"material": "steel", "fast": True, "thickness": 1.5, "count": 3, "twice": 3.0},
    ]
    definitions = session.project(outcome.project_id).get_parameter_definitions(as_objects=False)
    assert {(found["name"], found["type"], found["mode"]) for found in definitions} == {
        ("material", "string", "input"),
        ("fast", "bool", "input"),
        ("thickness", "float", "input"),
        ("count", "int", "input"),
        ("twice", "float", "output"),
        ("offline_bundle_job", "int", "input"),
    }


def test_the_project_is_what_was_asked_for(session: Session, tmp_path: Path) -> None:
    extra = tmp_path / "mesh.dat"
    extra.write_text("mesh")
    submission = make_submission(
        tmp_path,
        bundle="/shared/bundle",
        inputs=(extra,),
        outputs=("plot.png", "out/data.csv"),
        name="as asked",
        priority=7,
        software_version=None,
        cores=1.5,
        memory=2**30,
        disk=2**20,
        max_execution_time=33.0,
        trials=2,
        environment={"MODE": "test"},
        values=plan_values([], None, jobs=1),
    )
    submitted = submit(session, submission)
    api = session.project(submitted.project_id)
    project = session.jms.get_project(submitted.project_id)
    assert (project.name, project.priority, project.active) == ("as asked", 7, True)
    task = api.get_task_definitions(as_objects=False)[0]
    assert task["max_execution_time"] == 33
    assert task["num_trials"] == 2
    assert task["store_output"] is True
    assert task["use_execution_script"] is True
    assert task["environment"] == {
        "MODE": "test",
        "OFFLINE_BUNDLE": "/shared/bundle",
        "OMP_NUM_THREADS": "2",
        "OFFLINE_BUNDLE_JOBS": "1",
        "OFFLINE_BUNDLE_RULES": '{"outputs": {"patterns": ["plot.png", "out/data.csv"], '
        '"limit": null, "required": true}, "inputs": ["eval.py", "mesh.dat"], '
        '"arguments": [], "run_with": []}',
    }
    assert task["resource_requirements"]["num_cores"] == 1.5
    assert task["resource_requirements"]["memory"] == 2**30
    assert task["success_criteria"]["return_code"] == 0
    assert task["success_criteria"]["require_all_output_files"] is True
    assert [software["name"] for software in task["software_requirements"]] == ["uv"]
    files = {file["id"]: file for file in api.get_files(as_objects=False)}
    assert [files[name]["evaluation_path"] for name in task["input_file_ids"]] == [
        "eval.py",
        "mesh.dat",
        "offline_bundle_job.py",
    ]
    assert [files[name]["evaluation_path"] for name in task["output_file_ids"]] == [
        "plot.png",
        "out/data.csv",
    ]
    assert files[task["execution_script_id"]]["evaluation_path"] == "exec_script.py"


def test_projects_of_the_same_name_stay_unless_they_are_to_be_replaced(
    session: Session, tmp_path: Path
) -> None:
    one = make_submission(tmp_path, name="twin", values=plan_values([], None, jobs=1))
    first = submit(session, one)
    second = submit(session, one)
    assert {found.project_id for found in list_projects(session, name="twin")} == {
        first.project_id,
        second.project_id,
    }
    assert find_project(session, "twin").project_id == second.project_id
    third = submit(session, make_submission(tmp_path, name="twin", replace=True, values=one.values))
    assert [found.project_id for found in list_projects(session, name="twin")] == [third.project_id]


def test_jobs_are_created_in_batches(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offline_bundle.runner.engines.hps.submit.JOBS_PER_REQUEST", 4)
    steps: list[str] = []
    submission = make_submission(
        tmp_path, "open('plot.png', 'w')", values=plan_values([], None, jobs=10)
    )
    submitted = submit(session, submission, progress=steps.append)
    assert submitted.counts.total == 10
    assert steps[2:] == [f"creating the jobs: {done} of 10" for done in (4, 8, 10)]
    assert watch(HpsEngine(session), find_project(session, submitted.project_id)).total == 10
    names = [
        job["name"]
        for job in session.project(submitted.project_id).get_jobs(as_objects=False, sort="name")
    ]
    assert names == [f"job-{number:04}" for number in range(1, 11)]


def test_a_submission_that_is_cut_short_leaves_nothing(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("offline_bundle.runner.engines.hps.submit.define_job", interrupt)
    with pytest.raises(KeyboardInterrupt):
        submit(session, make_submission(tmp_path, name="cut short"))
    assert list_projects(session, name="cut short") == []


def test_a_failed_upload_has_the_reason_and_leaves_nothing(
    session: Session, tmp_path: Path
) -> None:
    submission = make_submission(tmp_path, "")

    def remove_script(_: str) -> None:
        submission.script.unlink(missing_ok=True)

    reason = f"could not be transferred to .*No such file or directory: '{submission.script}'"
    with pytest.raises(BundleError, match=reason) as caught:
        submit(session, submission, progress=remove_script)
    assert "no jobs were started" in str(caught.value.hint)
    assert submission.project_name not in {state.name for state in list_projects(session)}


def test_no_job_starts_before_all_are_there(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offline_bundle.runner.engines.hps import submit as submit_module

    seen = []

    def look(session: Session, project: Any) -> None:  # noqa: ANN401
        (entry,) = session.jms.get_projects(id=project.id, as_objects=False)
        seen.append((entry["active"], find_project(session, project.id).counts.by_state))
        activate(session, project)

    activate = submit_module.activate
    monkeypatch.setattr(submit_module, "activate", look)
    submit_module.submit(session, make_submission(tmp_path))
    assert seen == [(False, {"pending": 3})]


def test_software_that_nobody_offers_is_refused(session: Session, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"offers the software uvx; they offer uv 0") as raised:
        submit(session, make_submission(tmp_path, software="uvx", name="nobody"))
    assert "--software" in str(raised.value.hint)
    with pytest.raises(InputError, match=r"offers the software uv 0\.0\.1; they offer uv"):
        submit(session, make_submission(tmp_path, software_version="0.0.1", name="nobody"))
    assert list_projects(session, name="nobody") == []
    submitted = submit(session, make_submission(tmp_path, software="uvx"), require_software=False)
    assert find_project(session, submitted.project_id).counts.by_state == {"pending": 3}


def test_every_fault_is_found_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plot.png").write_text("")
    other = tmp_path.with_name(f"{tmp_path.name}-other")
    other.mkdir()
    (other / "eval.py").write_text("")
    monkeypatch.chdir(other)
    submission = make_submission(
        tmp_path,
        inputs=(tmp_path / "plot.png", tmp_path / "none", Path("eval.py")),
        outputs=(
            "plot.png",
            "../up",
            "/etc/passwd",
            "a\\b",
            "C:x",
            "",
            "a//b",
            "fine.txt",
            "sub/fine.txt",
        ),
        values=plan_values(["y=1"], None, jobs=1),
        output_values=("y",),
    )
    with pytest.raises(InputError) as raised:
        check_request(submission)
    assert list(raised.value.problems) == [
        f"{tmp_path}/none is not a file or a folder",
        "two files have the path eval.py",
        "the output 'plot.png' is an input, too",
        "the output '../up' leaves the job's directory",
        "the output '/etc/passwd' leaves the job's directory",
        "the output 'a\\\\b' is not a file name",
        "the output 'C:x' leaves the job's directory",
        "the output '' is not a file name",
        "the output 'a//b' is not a file name",
        "y is both an input and an output value",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("print('hello')\n", "has no inline metadata"),
        ("# /// script\n# dependencies = [\n# ///\n", "invalid metadata"),
        ("# /// script\n# dependencies = []\n", "eval.py"),
    ],
)
def test_a_script_without_usable_metadata_is_refused(tmp_path: Path, text: str, said: str) -> None:
    script = tmp_path / "eval.py"
    script.write_text(text)
    with pytest.raises(InputError, match=said):
        check_request(Submission(script=script, values=plan_values([], None, jobs=1)))


def test_a_script_that_is_not_a_file_is_refused(tmp_path: Path) -> None:
    """In the words of the build and the launcher; reading a pipe would wait for ever."""
    script = tmp_path / "eval.py"
    os.mkfifo(script)
    with pytest.raises(InputError, match=r"eval\.py is not a regular file"):
        check_request(Submission(script=script, values=plan_values([], None, jobs=1)))


def test_a_bundle_that_lacks_something_is_refused_where_it_can_be_seen(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", {"eval": BundleScript(dependencies=("alpha",))})
    for dependencies, name in (('"alpha"', "same"), ('"Alpha"', "spelt"), ("", "fewer")):
        script = write_script(tmp_path, "", f"{name}.py", dependencies)
        check_request(
            Submission(script=script, bundle=str(bundle), values=plan_values([], None, jobs=1))
        )
    script = write_script(tmp_path, "", "more.py", '"alpha", "beta>2"')
    submission = Submission(script=script, bundle=str(bundle), values=plan_values([], None, jobs=1))
    with pytest.raises(
        NotInBundleError, match=r"more.py requires beta>2, which the bundle .* does not have"
    ):
        check_request(submission)
    check_request(Submission(script=script, bundle="/only/nodes/see/it", values=submission.values))


def test_a_lost_server_is_named_and_nothing_is_left_running(tmp_path: Path) -> None:
    hps = EmbeddedHps(data=tmp_path / "hps")
    hps.start()
    try:
        with connect(server_of(hps), retry_timeout=0.5) as session:
            hps.stop()
            with pytest.raises(BundleError, match="could not be reached") as raised:
                submit(session, make_submission(tmp_path))
    finally:
        hps.stop()
    assert raised.value.exit_code == 1


@pytest.mark.slow
def test_ten_thousand_jobs_are_watched_by_small_requests(session: Session, tmp_path: Path) -> None:
    values = plan_values([], None, jobs=10_000)
    submission = make_submission(tmp_path, values=values, software="none of this site", outputs=())
    submitted = submit(session, submission, require_software=False)
    assert submitted.counts.total == 10 * JOBS_PER_REQUEST
    assert find_project(session, submitted.project_id).counts.by_state == {"pending": 10_000}


@pytest.mark.parametrize("is_forged", [True, False], ids=["forged", "signed"])
def test_a_policy_binds_jobs(session: Session, tmp_path: Path, *, is_forged: bool) -> None:
    policy = make_site(tmp_path / "site")
    bundle = make_bundle(tmp_path / "own", {"eval": BundleScript(body="import alpha\n")})
    if is_forged:
        forge(bundle)
    else:
        sign(bundle, str(policy.with_name("alice")))
    environment = {
        "OFFLINE_BUNDLE_POLICY": str(policy),
        "OFFLINE_BUNDLE_UV": find_uv_bin(),
        "OFFLINE_BUNDLE_CACHE": str(tmp_path / "cache"),
    }
    submission = Submission(
        script=bundle / "scripts" / "eval.py",
        bundle=str(bundle),
        values=plan_values([], None, jobs=1),
        environment=environment,
    )
    project = find_project(session, submit(session, submission).project_id)
    outcome = follow(HpsEngine(session), project, directory=tmp_path / "out")
    assert outcome.results
    (job,) = outcome.results.jobs
    [path] = (tmp_path / "out").rglob("console_output.txt")
    console = path.read_text()
    assert FORGED not in console
    assert ("not signed" in console) is is_forged
    assert job.state == ("failed" if is_forged else "done")
