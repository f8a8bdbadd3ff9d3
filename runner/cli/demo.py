"""The command `demo`: parse, call `offline_bundle.runner.demo.demonstrate`, render."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("demo")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    metavar="DIR",
    help="Where the bundle and the plots go.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="Number of jobs.",
)
def demo_command(*, output: Path, jobs: int) -> None:
    """See it all once: a bundle of a script that plots, verified, and jobs from it with the network cut.

    It needs a network for the first step, and for the last one Linux with user namespaces or bubblewrap, or root.
    """
    from offline_bundle.runner.demo import demonstrate

    plots = demonstrate(output, jobs=jobs, say=click.echo)
    click.echo(f"\n{len(plots)} plots, made offline:")
    for plot in plots:
        click.echo(f"  {plot}")
    click.echo(f"All of them on one page: {output / 'plots' / 'index.html'}")
