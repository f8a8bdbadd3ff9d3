"""The command `probe`: describe this node for `build --node`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click


@click.command("probe")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write.  [default: stdout]",
)
@click.option("--no-hostname", is_flag=True, help="Omit the host name.")
def probe_command(*, output: Path | None, no_hostname: bool) -> None:
    """Describe this node as JSON, for `build-offline-bundle --node node.json`.

    Without offline-bundle installed: copy the file runner/standalone/probe.py to the node, and run
    `python3 probe.py > node.json`.
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
    click.echo(
        f"wrote {output}; use it with: build-offline-bundle --node {quote(str(output))}", err=True
    )
