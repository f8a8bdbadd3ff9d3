"""Command-line options of all engines for batch schedulers."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import click

from offline_bundle.runner.options import PARALLEL, Decorator

_CANCEL_ON_INTERRUPT = click.option(
    "--cancel-on-interrupt", is_flag=True, help="Cancel the jobs on Ctrl-C."
)
QUEUE: Decorator = click.option(
    "--queue", metavar="NAME", help="Queue of the jobs.  [default: the site's]"
)
ACCOUNT: Decorator = click.option(
    "--account", metavar="NAME", help="Account to charge.  [default: yours]"
)
BATCH_OPTIONS: tuple[Decorator, ...] = (
    PARALLEL,
    click.option(
        "--node-cache",
        metavar="DIR",
        help="Folder for environments on the nodes: on a local disk, yours, and kept after the "
        "job.  [default: OFFLINE_BUNDLE_CACHE, or in TMPDIR unless that is the job's, or in /tmp]",
    ),
    click.option(
        "--after",
        multiple=True,
        metavar="PROJECT",
        help="Start when these jobs have ended: a results folder, or a job identifier; repeatable.",
    ),
    click.option("--dry-run", is_flag=True, help="Print the batch script; submit nothing."),
    _CANCEL_ON_INTERRUPT,
)
BATCH_JOBS_OPTIONS: tuple[Decorator, ...] = (_CANCEL_ON_INTERRUPT,)


def needs_directory(_: Mapping[str, Any]) -> bool:
    """Return True: jobs work in the results folder."""
    return True


def usage_check(engine: str, reserved: Collection[str]) -> Callable[..., None]:
    """Return the function `check_usage` of an engine that sets the *reserved* native options."""

    def check_usage(options: Mapping[str, Any], *, bundle: str | None, wait: bool) -> None:
        if not bundle:
            raise click.UsageError(
                f"--engine {engine} requires --bundle DIR, in a folder that nodes see"
            )
        if options["cancel_on_interrupt"] and not wait:
            raise click.UsageError("--cancel-on-interrupt has no effect with --no-wait")
        if options["node_cache"] and not Path(options["node_cache"]).is_absolute():
            raise click.UsageError("--node-cache must be an absolute path on the nodes")
        for option in options[f"{engine}_options"]:
            name = re.split(r"[ =]", option)[0]
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
                message = f"--{engine}-option {option!r} is not KEY=VALUE, without dashes"
                raise click.UsageError(message)
            if name in reserved:
                message = f"--{engine}-option {name}: offline-bundle sets this itself"
                raise click.UsageError(message)

    return check_usage
