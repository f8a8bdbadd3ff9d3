"""Slurm's commands where they are not, or answer with something else; with a real one:
tests/runner/engines.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner.batch.scheduler import (
    End,
    JobArray,
    Queue,
    SchedulerError,
    SubmitLimitError,
    UnreachableError,
)
from offline_bundle.runner.engines.slurm.scheduler import Slurm
from offline_bundle.runner.results.job_sets import job_set, members, parse_indices
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.defpath}")
    return tmp_path


def command(folder: Path) -> list[str]:
    return Slurm().submit_command(folder / "job.sh", [], JobArray("", 1, "1-2"))


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("7", [7]),
        ("1-3,7,10-20:5%4", [1, 2, 3, 7, 10, 15, 20]),
        ("[2-3%1]", [2, 3]),
        ("N/A", []),
    ],
)
def test_indices_as_slurm_writes_them(text: str, indices: list[int]) -> None:
    assert list(members(parse_indices(text))) == indices


def test_no_slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="there is no scontrol on PATH") as raised:
        Slurm().array_limit()
    assert "login node" in str(raised.value.hint)


def test_the_queue_is_asked_once_and_a_forgotten_job_is_none(bin_folder: Path) -> None:
    lines = ["12|3-5%2|PENDING|Resources|", "12|1|RUNNING|None|n1", "14|[2,9]|PENDING|None|"]
    text = "\n".join(lines)
    put(bin_folder, "squeue", f"echo \"$@\" >>{bin_folder}/calls; echo '{text}'")
    assert Slurm().queue(["12", "13", "14"]) == {
        "12": Queue(
            pending=job_set([3, 4, 5]), running=job_set([1]), reasons=frozenset({"Resources"})
        ),
        "14": Queue(pending=job_set([2, 9])),
    }
    assert len((bin_folder / "calls").read_text().splitlines()) == 1
    put(bin_folder, "squeue", 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1')
    assert Slurm().queue(["12"]) == {}


@pytest.mark.parametrize(
    ("reason", "is_held"),
    [
        ("JobHeldUser", True),
        ("JobHoldMaxRequeue", True),
        ("launch failed requeued held", True),
        ("AssocGrpCpuLimit", False),
        ("ReqNodeNotAvail, UnavailableNodes:n3", False),
    ],
)
def test_only_held_jobs_are_looked_for_at_each_poll(
    reason: str, bin_folder: Path, *, is_held: bool
) -> None:
    """Ten thousand jobs may wait for a limit: reading so many records takes long on a share."""
    put(bin_folder, "squeue", f'echo "12|1-10000|PENDING|{reason}|"')
    queue = Slurm().queue(["12"])["12"]
    assert queue.held == (queue.pending if is_held else 0)


def test_jobs_that_a_node_could_not_launch_are_released(bin_folder: Path) -> None:
    put(bin_folder, "squeue", 'echo "12|4,6|PENDING|launch failed requeued held|"')
    put(bin_folder, "scontrol", f'echo "$*" >"{bin_folder}/said"; exit 1')
    assert Slurm().queue(["12"])["12"].pending == job_set([4, 6])
    assert (bin_folder / "said").read_text() == "release 12_4,12_6\n"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (
            "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
            UnreachableError,
        ),
        ("slurm_load_jobs error: Connection reset by peer", UnreachableError),
        ("slurm_load_jobs error: Transport endpoint is not connected", UnreachableError),
        ("slurm_load_jobs error: Network is unreachable", UnreachableError),
        ("slurm_load_jobs error: No route to host", UnreachableError),
        ("slurm_load_jobs error: Communication connection failure", UnreachableError),
        ("slurm_load_jobs error: Message receive failure", UnreachableError),
        ("slurm_load_jobs error: Header lengths are longer than data received", UnreachableError),
        ("slurm_load_jobs error: Socket timed out on send/recv operation", UnreachableError),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", SubmitLimitError),
        ("sbatch: error: AssocMaxSubmitJobLimit", SubmitLimitError),
        ("sbatch: error: invalid partition specified: x", SchedulerError),
    ],
)
def test_what_a_command_says_is_told_apart(
    bin_folder: Path, said: str, kind: type[SchedulerError]
) -> None:
    put(bin_folder, "sbatch", f"echo '{said}' >&2; exit 1")
    with pytest.raises(SchedulerError) as raised:
        Slurm().submit(command(bin_folder))
    assert type(raised.value) is kind
    assert raised.value.message == f"sbatch: {said.removeprefix('sbatch: error: ')}"


def test_commands_without_a_cluster(bin_folder: Path) -> None:
    said = "scontrol: error: fetch_config: DNS SRV lookup failed\\nscontrol: fatal: no configuration source"
    put(bin_folder, "scontrol", f"printf '{said}\\n' >&2; exit 1")
    for asked in (Slurm().array_limit, lambda: Slurm().work_directory("12")):
        with pytest.raises(
            InputError, match="scontrol has no cluster configuration: fetch_config: DNS"
        ) as raised:
            asked()
        assert "SLURM_CONF" in str(raised.value.hint)
    put(
        bin_folder, "scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
    )
    assert Slurm().work_directory("12") is None


def test_the_cluster_s_name_beside_the_identifier(bin_folder: Path) -> None:
    put(bin_folder, "sbatch", "echo '4711;north'")
    assert Slurm().submit(command(bin_folder)) == "4711"
    put(bin_folder, "sbatch", "echo 'welcome to north'")
    with pytest.raises(
        SchedulerError, match="printed 'welcome to north' instead of a job identifier"
    ):
        Slurm().submit(command(bin_folder))


def test_arrays_that_are_not_allowed(bin_folder: Path) -> None:
    put(bin_folder, "scontrol", "echo 'MaxArraySize            = 0'")
    with pytest.raises(SchedulerError, match="allows no job arrays"):
        Slurm().array_limit()
    put(bin_folder, "scontrol", "echo 'MaxArraySize            = 1001'")
    assert Slurm().array_limit() == 1000


def test_the_accounting_where_there_is_one(bin_folder: Path) -> None:
    put(
        bin_folder,
        "sacct",
        "printf '12_1|COMPLETED\\n12_3|CANCELLED by 0\\n12_[4-5%%2]|CANCELLED by 0\\n'",
    )
    assert Slurm().accounted("12") == {
        1: End("failed"),
        3: End("cancelled"),
        4: End("cancelled"),
        5: End("cancelled"),
    }
    put(bin_folder, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert Slurm().accounted("12") == {}
