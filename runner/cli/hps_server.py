"""The `embedded-hps` command: the embedded HPS, kept running."""

from __future__ import annotations

import shlex
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from types import FrameType


@click.command("embedded-hps")
@click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="The bundle that the registered uv is set up for.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="N",
    help="Port.  [default: a free one]",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("hps-data"),
    metavar="DIR",
    show_default=True,
    help="Where it keeps everything; started on it again, it goes on where it ended.",
)
@click.option(
    "--username",
    envvar="HPS_USERNAME",
    default="repuser",
    show_default=True,
    help="The only user of this server.",
)
@click.option(
    "--password",
    envvar="HPS_PASSWORD",
    help="Password of the user.  [default: a random one, shown at start]",
)
@click.option(
    "--slots",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tasks at a time.  [default: usable cores]",
)
@click.option(
    "--tls/--no-tls",
    default=True,
    show_default=True,
    help="Serve https, as HPS does, with a certificate made at the first start; or plain http.",
)
def embedded_hps_command(  # noqa: PLR0913
    *,
    bundle: Path | None,
    port: int,
    data: Path,
    username: str,
    password: str | None,
    slots: int | None,
    tls: bool,
) -> None:
    """Serve a small HPS on this machine, for trying and testing, until Ctrl-C.

    It listens on the loopback address only. Whoever knows the password runs programs as you. A password of your own
    is better given in HPS_PASSWORD than on the command line, where others on this machine can read it.
    """
    from offline_bundle.runner.hps_server import EmbeddedHps

    hps = EmbeddedHps(
        data, port=port, username=username, password=password, slots=slots, bundle=bundle, tls=tls
    )
    ended = threading.Event()

    def end(_: int, __: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with hps:
        click.echo(f"url:       {hps.url}")
        click.echo(f"username:  {hps.username}")
        click.echo(f"password:  {'as given' if password else hps.password}")
        if hps.ca_file:
            click.echo(f"ca file:   {hps.ca_file}")
        words = ["-U", hps.url, *(["--ca-file", str(hps.ca_file)] if hps.ca_file else [])]
        words = [*words, "-u", hps.username, *(["--bundle", str(bundle)] if bundle else [])]
        click.echo(f"try it:    offline-bundle submit SCRIPT.py {shlex.join(words)}")
        click.echo(
            f"Running {hps.slots} tasks at a time; data in {hps.data}. Ctrl-C ends it.", err=True
        )
        ended.wait()
    click.echo("ended; what was running is pending again", err=True)
