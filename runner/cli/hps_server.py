"""The command `embedded-hps`: run the embedded HPS until Ctrl-C."""

from __future__ import annotations

import shlex
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from types import FrameType

    from offline_bundle.runner.hps_server import EmbeddedHps


@click.command("embedded-hps")
@click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Bundle that the registered uv uses.",
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
    help="Folder for all state; a later start with it continues.",
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
    help="Password of the user.  [default: a random one, printed at start]",
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
    help="Serve HTTPS, with a certificate created at the first start, or HTTP.",
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
    """Run a small HPS on this machine, for demos and tests, until Ctrl-C.

    It listens on the loopback address only. The password lets others run programs as you. Set your
    own password with HPS_PASSWORD: other users can read the command line.
    """
    from offline_bundle.runner.hps_server import EmbeddedHps

    hps = EmbeddedHps(
        data, port=port, username=username, password=password, slots=slots, bundle=bundle, tls=tls
    )
    stopped = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with hps:
        click.echo(f"url:       {hps.url}")
        click.echo(f"username:  {hps.username}")
        click.echo(f"password:  {'as given' if password else hps.password}")
        if hps.ca_file:
            click.echo(f"ca file:   {hps.ca_file}")
        click.echo(f"try it:    {_submit_command(hps, bundle, is_given=bool(password))}")
        click.echo(
            f"Running {hps.slots} tasks at a time; state in {hps.data}. Stop it with Ctrl-C.",
            err=True,
        )
        stopped.wait()
    click.echo("stopped; running tasks are pending again", err=True)


def _submit_command(hps: EmbeddedHps, bundle: Path | None, *, is_given: bool) -> str:
    """Return a command line that works as it is: with a script of the bundle and the password."""
    from offline_bundle.wheelhouse.runtime.bundle.manifest import read_manifest

    script = Path("SCRIPT.py")
    if bundle:
        bundle = bundle.absolute()
        scripts = read_manifest(bundle).scripts.values()
        script = next((bundle / entry.path for entry in scripts), script)
    options = ["-U", hps.url, "-u", hps.username]
    options += ["--ca-file", str(hps.ca_file)] if hps.ca_file else []
    if bundle:
        options += ["--bundle", str(bundle), "--download", f"{script.stem}-results"]
    # why the password is printed: a random one is known to this terminal only, and is above already
    password = "" if is_given else f"HPS_PASSWORD={shlex.quote(hps.password)} "
    return f"{password}offline-bundle submit {shlex.join([str(script), *options])}"
