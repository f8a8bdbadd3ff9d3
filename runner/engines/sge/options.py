"""Command-line options of the Grid Engine engine, and their translation for qsub."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from offline_bundle.runner.batch.options import BATCH_OPTIONS, QUEUE, usage_check
from offline_bundle.runner.options import Decorator
from offline_bundle.runner.request import Request
from offline_bundle.runner.results.folder import PRIVATE_NAME

_RESERVED = {"t", "tc", "wd", "cwd", "o", "e", "j", "N", "terse", "sync", "b", "hold_jid", "S", "V"}
"""Options of qsub that this engine sets."""

OPTIONS: tuple[Decorator, ...] = (
    QUEUE,
    click.option("--project", metavar="NAME", help="Project to charge.  [default: yours]"),
    click.option(
        "--parallel-environment",
        metavar="NAME",
        default="smp",
        show_default=True,
        help="Parallel environment for jobs of several cores.",
    ),
    click.option(
        "--memory-resource",
        metavar="NAME",
        default="h_vmem",
        show_default=True,
        help="Resource that --memory requests, for each core.",
    ),
    click.option(
        "--sge-option",
        "sge_options",
        multiple=True,
        metavar="'KEY [VALUE]'",
        help="Another option of qsub, such as `l gpu=1`; repeatable.",
    ),
    *BATCH_OPTIONS,
)
check_usage = usage_check("sge", _RESERVED)


def qsub_options(request: Request, options: Mapping[str, Any], directory: Path) -> list[str]:
    """Return the options of qsub for a submission."""
    cores = math.ceil(request.cores or 1) * (request.tasks or 1)
    words = ["-V", "-S", "/bin/sh", "-N", _job_name(request.project_name)]
    words += ["-wd", str(directory / PRIVATE_NAME), "-j", "y", "-o", "/dev/null"]
    if cores > 1:
        words += ["-pe", options["parallel_environment"], str(cores)]
    if request.memory:
        kibibytes = math.ceil(request.memory / cores / 1024)
        words += ["-l", f"{options['memory_resource']}={kibibytes}K"]
    if request.max_execution_time:
        words += ["-l", f"h_rt={math.ceil(request.max_execution_time)}"]
    for flag, name in (("-q", "queue"), ("-P", "project")):
        words += [flag, options[name]] if options[name] else []
    for option in options["sge_options"]:
        words += shlex.split(f"-{option}")
    return words


def _job_name(name: str) -> str:
    """Return a name that Grid Engine accepts: it refuses blanks, `/:@*?` and leading digits."""
    text = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)
    return text if re.match(r"[A-Za-z_]", text) else f"_{text}"
