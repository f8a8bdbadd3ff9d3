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
    help="Folder for the bundle and the plots.",
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
    """Build a bundle of a script that plots, verify it, and run jobs from it without a network.

    The first step needs a network. The last one needs Linux with user namespaces, bubblewrap or
    root.
    """
    from offline_bundle.runner.demo import demonstrate

    plots = demonstrate(output, jobs=jobs, echo=click.echo)
    click.echo(f"\n{len(plots)} plots, made without a network:")
    for plot in plots:
        click.echo(f"  {plot}")
    click.echo(f"Page with all plots: {output / 'plots' / 'index.html'}")
