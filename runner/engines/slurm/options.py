"""Command-line options of the Slurm engine, and their translation for sbatch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from offline_bundle.runner.batch.job_script import LOGS
from offline_bundle.runner.batch.options import ACCOUNT, BATCH_OPTIONS, usage_check
from offline_bundle.runner.options import Decorator
from offline_bundle.runner.request import Request
from offline_bundle.runner.results.folder import PRIVATE_NAME

_RESERVED = {
    "array",
    "chdir",
    "dependency",
    "output",
    "error",
    "open-mode",
    "parsable",
    "wrap",
    "wait",
    "test-only",
    "job-name",
    "help",
}
"""Options of sbatch that this engine sets."""

OPTIONS: tuple[Decorator, ...] = (
    click.option("--partition", metavar="NAME", help="Partition of the jobs.  [default: Slurm's]"),
    ACCOUNT,
    click.option("--qos", metavar="NAME", help="Quality of service.  [default: yours]"),
    click.option(
        "--slurm-option",
        "slurm_options",
        multiple=True,
        metavar="KEY[=VALUE]",
        help="Another option of sbatch, such as `constraint=icelake`; repeatable.",
    ),
    *BATCH_OPTIONS,
)
check_usage = usage_check("slurm", _RESERVED)


def sbatch_options(request: Request, options: Mapping[str, Any], directory: Path) -> list[str]:
    """Return the options of sbatch for a submission."""
    private = str(directory / PRIVATE_NAME)
    words = [
        f"--job-name={request.project_name}",
        f"--chdir={private}",
        f"--output={private.replace('%', '%%')}/{LOGS}/%A_%a.out",
        "--open-mode=append",
        f"--cpus-per-task={math.ceil(request.cores or 1)}",
    ]
    if request.tasks:
        words.append(f"--ntasks={request.tasks}")
    if request.nodes:
        words.append(f"--nodes={request.nodes}")
    if request.gpus:
        words.append(f"--gres=gpu:{request.gpus}")
    if request.memory:
        words.append(f"--mem={math.ceil(request.memory / 1024)}K")
    if request.max_execution_time:
        seconds = math.ceil(request.max_execution_time)
        words.append(f"--time={seconds // 60}:{seconds % 60:02}")
    named = ("partition", "account", "qos")
    words += [f"--{name}={options[name]}" for name in named if options[name]]
    return words + [f"--{option}" for option in options["slurm_options"]]
