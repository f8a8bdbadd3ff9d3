from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.runner.engines.hps.connection.session import connect
from offline_bundle.runner.engines.hps.downloads import checksum
from offline_bundle.runner.engines.hps.jobs import HpsEngine
from offline_bundle.runner.engines.hps.local_paths import folder_names, safe_path
from offline_bundle.runner.engines.hps.projects import find_failures, find_project
from offline_bundle.runner.engines.hps.results import download
from offline_bundle.runner.engines.hps.submit import submit
from offline_bundle.runner.follow import follow, watch
from offline_bundle.runner.results.owner import check_empty
from offline_bundle.runner.values import plan_values
from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    FetchError,
    InputError,
    JobsFailedError,
)
from tests.support.archives import small_disk
from tests.support.jobs import CLIENT_LEAKS, embedded, make_submission, server_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

    from offline_bundle.runner.engines.hps.connection.session import Session
    from offline_bundle.runner.hps_server import EmbeddedHps
    from offline_bundle.runner.model import Counts, ProjectState

pytestmark = pytest.mark.filterwarnings(CLIENT_LEAKS)


@pytest.fixture(scope="module")
def hps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHps]:
    yield from embedded(tmp_path_factory.mktemp("hps"))


@pytest.fixture(scope="module")
def plots(hps: EmbeddedHps, tmp_path_factory: pytest.TempPathFactory) -> ProjectState:
    """Three jobs, of which the second fails."""
    folder = tmp_path_factory.mktemp("plots")
    table = folder / "values.csv"
    table.write_text("n\n1\n2\n3\n")
    with connect(server_of(hps)) as session:
        submitted = submit(session, make_submission(folder, values=plan_values([], table, jobs=1)))
        assert watch(HpsEngine(session), find_project(session, submitted.project_id)).by_state == {
            "done": 2,
            "failed": 1,
        }
    return submitted


@pytest.fixture(scope="module")
def session(hps: EmbeddedHps) -> Iterator[Session]:
    with connect(server_of(hps)) as session:
        yield session


def console(results: Path, job: str) -> str:
    return (results / job / "console_output.txt").read_text()


def test_watching_ends_with_the_jobs_and_asks_little(
    session: Session, plots: ProjectState, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[bytes] = []
    send = session.client.session.send

    def spy(request: requests.PreparedRequest, **options: Any) -> requests.Response:  # noqa: ANN401
        answer: requests.Response = send(request, **options)
        answers.append(answer.content)
        return answer

    project = find_project(session, plots.project_id)
    monkeypatch.setattr(session.client.session, "send", spy)
    seen: list[Counts] = []
    assert watch(HpsEngine(session), project, seen.append).failed == 1
    assert len(seen) == len(answers) == 1
    assert len(answers[0]) < 1000


def test_a_project_that_goes_while_it_is_watched_is_missed(
    session: Session, tmp_path: Path
) -> None:
    submitted = submit(
        session,
        make_submission(tmp_path, software="nobody's", name="stuck"),
        require_software=False,
    )

    def remove(_: Counts) -> None:
        session.jms.delete_project(session.jms.get_project(submitted.project_id))

    with pytest.raises(BundleError, match="does not exist any more: deleted or replaced"):
        watch(HpsEngine(session), find_project(session, submitted.project_id), remove)


def test_a_standstill_is_said_once(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offline_bundle.runner.follow._PENDING_NOTICE_SECONDS", 0.1)
    monkeypatch.setattr("offline_bundle.runner.follow._SHORTEST_PAUSE_SECONDS", 0.1)
    submitted = submit(
        session,
        make_submission(tmp_path, software="nobody's", name="stuck"),
        require_software=False,
    )
    seen: list[Counts] = []
    notices: list[str] = []

    def end(counts: Counts) -> None:
        seen.append(counts)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(
            HpsEngine(session),
            find_project(session, submitted.project_id),
            end,
            notice=notices.append,
        )
    assert len(notices) == 1
    assert "no job has started after " in notices[0]


def test_a_project_is_found_by_name_and_by_identifier(
    session: Session, plots: ProjectState
) -> None:
    assert find_project(session, plots.name).project_id == plots.project_id
    assert find_project(session, plots.project_id).name == plots.name
    with pytest.raises(InputError, match="has no project nothing like it that"):
        find_project(session, "nothing like it")


def test_failed_jobs_are_told_of_with_the_end_of_their_console(
    session: Session, plots: ProjectState
) -> None:
    (failure,) = find_failures(session, plots.project_id, 10)
    assert (failure.job, failure.state) == ("job-0002", "failed")
    assert failure.node == platform.node()
    assert failure.started
    assert failure.seconds
    assert "two is not a number of mine" in failure.tail
    outcome = follow(HpsEngine(session), find_project(session, plots.project_id))
    with pytest.raises(
        JobsFailedError,
        match=r"1 of 3 jobs failed\n  job-0002: failed on .* after .* s\n    \|",
    ) as raised:
        outcome.raise_if_failed()
    assert raised.value.exit_code == 8
    assert "--download" in str(raised.value.hint)


def test_every_output_comes_down_verified_with_a_page(
    session: Session, plots: ProjectState, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    results = download(
        session,
        plots.project_id,
        tmp_path / "out",
        progress=lambda done, of: seen.append((done, of)),
    )
    found = sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")
    )
    assert found == [
        ".offline-bundle.json",
        "index.html",
        "job-0001/console_output.txt",
        "job-0001/plot.png",
        "job-0002/console_output.txt",
        "job-0003/console_output.txt",
        "job-0003/plot.png",
        "results.csv",
    ]
    assert results.files == 5
    assert seen[-1] == (results.size, results.size)
    assert "plotted 3" in console(tmp_path / "out", "job-0003")
    assert [(job.name, job.state, dict(job.values)["n"]) for job in results.jobs] == [
        ("job-0001", "done", 1),
        ("job-0002", "failed", 2),
        ("job-0003", "done", 3),
    ]
    assert all(job.seconds and job.started for job in results.jobs)
    assert {job.node for job in results.jobs} == {platform.node()}
    page = results.page.read_text()
    assert '["job-0003/plot.png","plot.png",' in page
    assert "two is not a number of mine" in page


def test_a_second_download_transfers_what_is_missing_or_damaged(
    session: Session, plots: ProjectState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download(session, plots.project_id, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    kept = (tmp_path / "job-0001" / "console_output.txt").stat()
    damaged = tmp_path / "job-0001" / "plot.png"
    damaged.write_bytes(bytes(damaged.stat().st_size))
    (tmp_path / "job-0003" / "plot.png").unlink()
    (tmp_path / "job-0003" / ".plot.png.part").write_text("cut sho")
    asked: list[str] = []
    copy = session.client.data_transfer_api.copy

    def spy(pairs: list[Any]) -> Any:  # noqa: ANN401
        asked.extend(Path(pair.dst.path).parent.name for pair in pairs)
        return copy(pairs)

    monkeypatch.setattr(session.client.data_transfer_api, "copy", spy)
    download(session, plots.project_id, tmp_path)
    assert sorted(asked) == ["job-0001", "job-0003"]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
    assert (tmp_path / "job-0001" / "console_output.txt").stat().st_mtime_ns == kept.st_mtime_ns


def test_what_does_not_match_its_checksum_is_not_kept(
    hps: EmbeddedHps, session: Session, plots: ProjectState, tmp_path: Path
) -> None:
    files = session.project(plots.project_id).get_files(as_objects=False)
    plot, gone = [file for file in files if file["name"] == "plot.png" and file["hash"]]
    stored = hps.data / "storage" / plots.project_id / plot["storage_id"]
    lost = hps.data / "storage" / plots.project_id / gone["storage_id"]
    content, lost_content = stored.read_bytes(), lost.read_bytes()
    stored.write_bytes(content[::-1])
    lost.unlink()
    try:
        with pytest.raises(FetchError, match="2 files of 5 could not be downloaded") as raised:
            download(session, plots.project_id, tmp_path)
    finally:
        stored.write_bytes(content)
        lost.write_bytes(lost_content)
    assert raised.value.exit_code == 4
    said = "\n".join(raised.value.problems)
    assert f"and should be {plot['hash']}" in said
    assert "No such file" in said or "404" in said
    assert len(list(tmp_path.rglob("console_output.txt"))) == 3
    assert list(tmp_path.rglob("plot.png")) == []
    assert "job-0001" in (tmp_path / "index.html").read_text()
    assert download(session, plots.project_id, tmp_path).files == 5


@pytest.mark.parametrize("is_looked_at", [True, False], ids=["seen before", "filled meanwhile"])
def test_a_full_disk_is_named_and_the_download_goes_on_later(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_looked_at: bool
) -> None:
    """Not to look beforehand is as if another program took the room meanwhile."""
    body = "import os, pathlib\npathlib.Path('plot.png').write_bytes(os.urandom(300_000))"
    submitted = submit(
        session, make_submission(tmp_path, body, values=plan_values([], None, jobs=2))
    )
    watch(HpsEngine(session), find_project(session, submitted.project_id))
    if not is_looked_at:
        monkeypatch.setattr(
            "offline_bundle.runner.engines.hps.downloads._check_space", lambda _: None
        )
    with small_disk(tmp_path / "disk", 450_560) as disk:
        with pytest.raises(FetchError, match=r"the disk is full: .* and .*B are free") as raised:
            download(session, submitted.project_id, disk / "out")
        assert raised.value.exit_code == 4
        assert "finished files are kept" in str(raised.value.hint)
        assert not list(disk.rglob("*.partial"))
        assert all(path.stat().st_size == 300_000 for path in disk.rglob("plot.png"))
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        assert download(session, submitted.project_id, disk / "out").files == 4


def test_the_results_of_two_projects_are_not_mixed(
    session: Session, plots: ProjectState, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(InputError, match="contains other files; nothing was downloaded"):
        download(session, plots.project_id, tmp_path)
    with pytest.raises(InputError, match="exists and is not empty; nothing was submitted"):
        check_empty(tmp_path)
    (tmp_path / "mine.txt").unlink()
    check_empty(tmp_path)
    (tmp_path / ".offline-bundle.json").write_text(
        json.dumps({"project": "another", "name": "another one"})
    )
    with pytest.raises(
        InputError, match="contains results of the project another one; nothing was downloaded"
    ):
        download(session, plots.project_id, tmp_path)


def test_a_directory_that_cannot_be_made_is_named(
    session: Session, plots: ProjectState, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="file/out cannot be used: Not a directory"):
        download(session, plots.project_id, tmp_path / "file" / "out")


def test_folders_are_the_jobs_names_where_those_can_be_folders() -> None:
    jobs = [
        "job-1",
        "Job.0",
        "a/b",
        "../../etc",
        "",
        ".hidden",
        "JOB-1",
        "con",
        "x" * 300,
        "Größe",
        "index.html",
    ]
    folders = folder_names([(f"id{number}", name) for number, name in enumerate(jobs)])
    assert list(folders.values()) == [
        "job-1", "Job.0", "a_b", "etc", "job-id4", "hidden", "JOB-1-id6", "con_", "x" * 100, "Größe", "index.html_",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("plot.png", "plot.png"),
        ("sub/./plot.png", "sub/plot.png"),
        ("sub\\plot.png", "sub/plot.png"),
        ("../plot.png", None),
        ("a/../../b", None),
        ("/etc/passwd", None),
        ("C:\\x", None),
        ("C:x", None),
        ("\\\\host\\x", None),
        ("a\nb", None),
        ("", None),
        (".", None),
    ],
)
def test_no_path_of_a_server_leaves_its_folder(path: str, expected: str | None) -> None:
    assert safe_path(path) == (expected and PurePosixPath(expected))


def test_checksums_are_those_of_hps(tmp_path: Path) -> None:
    file = tmp_path / "mock"
    file.write_text("Mock file")
    assert checksum(file) == "ac2390bba2edaa01"


@pytest.mark.slow
def test_a_restart_of_the_server_while_files_come_down_is_ridden_out(tmp_path: Path) -> None:
    from offline_bundle.runner.hps_server import EmbeddedHps

    data, out = tmp_path / "hps", tmp_path / "out"
    first = EmbeddedHps(data=data)
    first.start()
    second = EmbeddedHps(
        data=data, port=first.port, username=first.username, password=first.password
    )
    notices: list[str] = []
    try:
        with connect(server_of(first), notice=notices.append) as session:
            submitted = submit(session, make_submission(tmp_path))
            watch(HpsEngine(session), find_project(session, submitted.project_id))
            restarts = iter([True])

            def restart(_done: int, _total: int) -> None:
                if next(restarts, False):
                    first.stop()
                    second.start()

            results = download(session, submitted.project_id, out, progress=restart)
    finally:
        second.stop()
    assert results.files == 6
