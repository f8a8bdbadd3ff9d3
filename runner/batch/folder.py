"""Write the results folder of a submission: all that its jobs read on the nodes.

DIRECTORY/.submission/job.sh        the batch script, the same for all jobs
DIRECTORY/.submission/inputs/       the script and its inputs
DIRECTORY/.submission/values        the values of each job, in records of one size
DIRECTORY/.submission/attempts/     jobs that run, and attempts that the scheduler ended
DIRECTORY/.submission/logs/         what the scheduler itself printed about a job
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from offline_bundle.runner.batch.job_script import (
    ARGUMENTS_NAME,
    LOGS,
    SCRIPT_NAME,
    SITE_LAUNCHER_NAME,
    THREADS_NAME,
    VALUES_NAME,
    render_arguments,
    render_records,
    render_script,
    render_values,
)
from offline_bundle.runner.batch.scheduler import Scheduler
from offline_bundle.runner.job_files.inputs import INPUTS, InputFile, write_inputs
from offline_bundle.runner.request import THREADS_VARIABLE, Request
from offline_bundle.runner.results.folder import (
    ATTEMPTS,
    PRIVATE_NAME,
    SubmissionRecord,
    write,
    write_submission,
)
from offline_bundle.runner.results.job_sets import format_indices, job_set
from offline_bundle.wheelhouse.store import shipped


def write_folder(
    directory: Path,
    request: Request,
    files: Sequence[InputFile],
    scheduler: Scheduler,
    options: Mapping[str, Any],
) -> SubmissionRecord:
    """Write the files of a submission without arrays. Raises OSError."""
    private = directory / PRIVATE_NAME
    private.mkdir(mode=0o700)
    for name in (ATTEMPTS, LOGS):
        (private / name).mkdir()
    write_inputs(files, private / INPUTS)
    (private / VALUES_NAME).write_bytes(render_values(request.values.rows)[0])
    (private / ARGUMENTS_NAME).write_bytes(_arguments(request)[0])
    (private / THREADS_NAME).write_bytes(_threads(request)[0])
    write(private / SCRIPT_NAME, render(directory, request, files, scheduler, options))
    (private / SITE_LAUNCHER_NAME).write_bytes(shipped.site_launcher())
    details = {
        "arrays": [],
        "failed_nodes": [],
        "retried_after": 0,
        "is_cancelled": False,
        "limit": scheduler.array_limit(),
        "groups": [
            (format_indices(job_set(numbers)), scheduler.submit_options(part, options, directory))
            for part, numbers in request.by_resources()
        ],
        "parallel": options.get("parallel"),
        "after": list(options.get("after_jobs", ())),
    }
    rows, outputs = request.values.rows, request.wanted
    plan = SubmissionRecord(request.project_name, scheduler.engine, rows, outputs, details)
    write_submission(directory, plan)
    return plan


def render(
    directory: Path,
    request: Request,
    files: Sequence[InputFile],
    scheduler: Scheduler,
    options: Mapping[str, Any],
) -> str:
    """Return the batch script of a submission."""
    return render_script(
        variables=scheduler.variables,
        folder=directory,
        bundle=str(request.bundle),
        script=request.script.name,
        jobs=len(request.values.rows),
        inputs=list(dict.fromkeys(file.top for file in files)),
        outputs=request.wanted,
        environment=request.variables,
        node_cache=options.get("node_cache"),
        record_size=render_values(request.values.rows)[1],
        argument_size=_arguments(request)[1],
        threads_size=_threads(request)[1],
        run_with=request.run_with or scheduler.run_with(request),
    )


def _threads(request: Request) -> tuple[bytes, int]:
    """Return OMP_NUM_THREADS of each job, where cores differ; see `render_records`."""
    if "cores" not in request.columns:
        return b"", 0
    threads = {
        number: part.variables[THREADS_VARIABLE]
        for part, numbers in request.by_resources()
        for number in numbers
    }
    return render_records([threads[number] for number in sorted(threads)])


def _arguments(request: Request) -> tuple[bytes, int]:
    return render_arguments([request.arguments_of(row) for row in request.values.rows])
