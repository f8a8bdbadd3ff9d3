"""The command `cache`."""

from __future__ import annotations

import click

from offline_bundle.wheelhouse.cli.kit.options import SizeType, json_option
from offline_bundle.wheelhouse.cli.kit.output import print_json
from offline_bundle.wheelhouse.runtime.launcher.cache.entries import KINDS
from offline_bundle.wheelhouse.runtime.launcher.cache.tasks import TASKS, run_cache_task


@click.command("cache")
@click.argument("task", type=click.Choice(TASKS), metavar="|".join(TASKS))
@click.argument("kinds", metavar="[KIND]...", nargs=-1, type=click.Choice(KINDS))
@click.option(
    "--days",
    type=float,
    metavar="DAYS",
    help="prune: remove what was not used for DAYS (default: 30).",
)
@click.option(
    "--max-size",
    type=SizeType(),
    metavar="SIZE",
    help="prune: then remove the least recently used, down to SIZE.",
)
@click.option("--repair", is_flag=True, help="verify: remove what is corrupt; it is made again.")
@json_option
def cache_command(  # noqa: PLR0913 - one parameter per option
    *,
    task: str,
    kinds: tuple[str, ...],
    days: float | None,
    max_size: int | None,
    repair: bool,
    as_json: bool,
) -> int:
    """Look after the cache folder: environments, interpreters, downloads, built wheels.

    Nodes and building machines have the same one. What jobs or builds use is never removed.
    `clear` removes everything else, or only entries of these KINDs. Everything is made again when
    it is needed. On a node without offline-bundle: python3 BUNDLE/run.py --cache TASK.
    """
    result = run_cache_task(task, kinds, days=days, limit=max_size, repair=repair)
    if as_json:
        print_json(result.document)
        return result.error.exit_code if result.error else 0
    for line in result.lines:
        click.echo(line)
    if result.error:
        raise result.error
    return 0
