"""The `probe` command: what this node is, for those who build bundles for it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("probe")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write it.  [default: stdout]",
)
@click.option("--no-hostname", is_flag=True, help="Leave the name of this machine out.")
def probe_command(*, output: Path | None, no_hostname: bool) -> None:
    """Describe this node as JSON, for `build-offline-bundle --node node.json`.

    The same without this package: copy the one file runner/probe.py there, and `python3 probe.py > node.json`.
    """
    from offline_bundle.runner.standalone.probe import describe, render
    from offline_bundle.wheelhouse.runtime.errors import BundleError

    text = render(describe(with_hostname=not no_hostname))
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="ascii")
    except OSError as error:
        raise BundleError(
            f"{output} cannot be written: {error.strerror}", hint="name another file with -o"
        ) from error
    click.echo(f"{output}: give it to build-offline-bundle with --node", err=True)
