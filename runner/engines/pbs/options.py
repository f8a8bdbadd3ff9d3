"""Command-line options of the PBS engine, and their translation for qsub."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from offline_bundle.runner.batch.options import ACCOUNT, BATCH_OPTIONS, QUEUE, usage_check
from offline_bundle.runner.options import Decorator
from offline_bundle.runner.request import Request
from offline_bundle.runner.results.folder import PRIVATE_NAME

FOLDER_VARIABLE = "OFFLINE_BUNDLE_FOLDER"
"""The variable of a job that has its submission's folder: PBS has no option for it."""

_RESERVED = {"J", "N", "o", "e", "j", "V", "v", "S", "W"}
"""Options of qsub that this engine sets."""

OPTIONS: tuple[Decorator, ...] = (
    QUEUE,
    ACCOUNT,
    click.option(
        "--pbs-option",
        "pbs_options",
        multiple=True,
        metavar="'KEY [VALUE]'",
        help="Another option of qsub, such as `l place=scatter`; repeatable.",
    ),
    *BATCH_OPTIONS,
)
check_usage = usage_check("pbs", _RESERVED)


def qsub_options(request: Request, options: Mapping[str, Any], directory: Path) -> list[str]:
    """Return the options of qsub for a submission."""
    name = re.sub(r"[^\w.-]+", "_", request.project_name, flags=re.ASCII)
    words = ["-V", "-S", "/bin/sh", "-N", name if name[0].isalpha() else f"j{name}"]
    words += ["-j", "oe", "-o", "/dev/null", "-l", _select(request)]
    if request.max_execution_time:
        words += ["-l", f"walltime={math.ceil(request.max_execution_time)}"]
    for flag, option in (("-q", "queue"), ("-A", "account")):
        words += [flag, options[option]] if options[option] else []
    for option in options["pbs_options"]:
        words += shlex.split(f"-{option}")
    return [*words, "-v", f"{FOLDER_VARIABLE}={directory / PRIVATE_NAME}"]


def _select(request: Request) -> str:
    """Return the chunks of a job: one for each node, with its share of tasks."""
    nodes = request.nodes or 1
    tasks = math.ceil((request.tasks or 1) / nodes)
    parts = [f"select={nodes}", f"ncpus={math.ceil(request.cores or 1) * tasks}"]
    parts += [f"mpiprocs={tasks}"] if request.tasks else []
    parts += [f"ngpus={request.gpus}"] if request.gpus else []
    parts += [f"mem={math.ceil(request.memory / nodes / 1024)}kb"] if request.memory else []
    return ":".join(parts)
