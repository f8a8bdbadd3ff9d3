"""Command-line options of the Slurm engine, and their translation for sbatch."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offline_bundle.runner.engines.slurm.batch_script import LOGS
from offline_bundle.runner.options import PARALLEL
from offline_bundle.runner.results.folder import PRIVATE_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from offline_bundle.runner.options import Decorator
    from offline_bundle.runner.request import Request

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
    click.option("--account", metavar="NAME", help="Account to charge.  [default: yours]"),
    click.option("--qos", metavar="NAME", help="Quality of service.  [default: yours]"),
    click.option(
        "--slurm-option",
        "slurm_options",
        multiple=True,
        metavar="KEY[=VALUE]",
        help="Another option of sbatch, such as `constraint=icelake`; repeatable.",
    ),
    PARALLEL,
    click.option(
        "--node-cache",
        metavar="DIR",
        help="Folder for environments on the nodes: on a local disk, yours, and kept after the "
        "job.  [default: OFFLINE_BUNDLE_CACHE, or in TMPDIR unless that is the job's, or in /tmp]",
    ),
    click.option("--cancel-on-interrupt", is_flag=True, help="Cancel the jobs on Ctrl-C."),
)
JOBS_OPTIONS: tuple[Decorator, ...] = (OPTIONS[-1],)


def check_usage(options: Mapping[str, Any], *, bundle: str | None, wait: bool) -> None:
    """Raise `click.UsageError` for invalid options and options that exclude each other."""
    if not bundle:
        raise click.UsageError("--engine slurm requires --bundle DIR, in a folder that nodes see")
    if options["cancel_on_interrupt"] and not wait:
        raise click.UsageError("--cancel-on-interrupt has no effect with --no-wait")
    for option in options["slurm_options"]:
        name = option.partition("=")[0]
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise click.UsageError(f"--slurm-option {option!r} is not KEY=VALUE, without dashes")
        if name in _RESERVED:
            raise click.UsageError(f"--slurm-option {name}: offline-bundle sets this itself")
    if options["node_cache"] and not Path(options["node_cache"]).is_absolute():
        raise click.UsageError("--node-cache must be an absolute path on the nodes")


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
    if request.memory:
        words.append(f"--mem={math.ceil(request.memory / 1024)}K")
    if request.max_execution_time:
        seconds = math.ceil(request.max_execution_time)
        words.append(f"--time={seconds // 60}:{seconds % 60:02}")
    named = ("partition", "account", "qos")
    words += [f"--{name}={options[name]}" for name in named if options[name]]
    return words + [f"--{option}" for option in options["slurm_options"]]
