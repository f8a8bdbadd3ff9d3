"""Command-line options of the HPS engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from offline_bundle.runner.engines.hps.connection.server import DEFAULT_URL, DEFAULT_USERNAME
from offline_bundle.wheelhouse.cli.kit.options import SizeType

if TYPE_CHECKING:
    from offline_bundle.runner.options import Decorator

JOBS_OPTIONS: tuple[Decorator, ...] = (
    click.option(
        "-U",
        "--url",
        envvar="HPS_URL",
        show_envvar=True,
        help=f"URL of the HPS server, such as {DEFAULT_URL}.",
    ),
    click.option(
        "-u",
        "--username",
        envvar="HPS_USERNAME",
        default=DEFAULT_USERNAME,
        show_default=True,
        help="The user on the HPS server.",
        show_envvar=True,
    ),
    click.option(
        "-p",
        "--password",
        envvar="HPS_PASSWORD",
        show_envvar=True,
        help="Prefer the environment variable, the keyring or the prompt: other users can see "
        "command lines.",
    ),
    click.option(
        "--token",
        envvar="HPS_TOKEN",
        show_envvar=True,
        help="Access token, instead of user and password; prefer the environment variable.",
    ),
    click.option(
        "--client-id",
        envvar="HPS_CLIENT_ID",
        show_envvar=True,
        metavar="ID",
        help="Service account, instead of user and password.",
    ),
    click.option(
        "--client-secret",
        envvar="HPS_CLIENT_SECRET",
        show_envvar=True,
        metavar="SECRET",
        help="Secret of the service account; prefer the environment variable.",
    ),
    click.option(
        "--ca-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="PEM certificates of the authority to trust instead of the usual ones.",
    ),
    click.option(
        "--insecure",
        is_flag=True,
        help="Do not verify the server's certificate. Others on the network can then read the "
        "password and replace files and programs that run here.",
    ),
)
"""The server and the account."""

OPTIONS: tuple[Decorator, ...] = (
    *JOBS_OPTIONS,
    click.option(
        "--embedded", is_flag=True, help="Start an embedded HPS on this machine for these jobs."
    ),
    click.option(
        "--ship-bundle",
        is_flag=True,
        help="Upload the bundle with the project, for nodes that cannot read its folder.",
    ),
    click.option(
        "--replace",
        is_flag=True,
        help="Remove your projects of the same name first, with their results.",
    ),
    click.option(
        "--priority",
        type=click.IntRange(min=0),
        default=1,
        show_default=True,
        help="Lower goes first.",
    ),
    click.option(
        "--software",
        default="uv",
        show_default=True,
        help="Software name as registered with the evaluators.",
    ),
    click.option(
        "--software-version", metavar="VERSION", help="Version of the software.  [default: any]"
    ),
    click.option(
        "--skip-software-check",
        is_flag=True,
        help="Submit even if no evaluator lists the software.",
    ),
    click.option(
        "--disk", type=SizeType(), default="10MiB", show_default=True, help="Disk space per job."
    ),
    click.option(
        "--trials",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Attempts for a failing job.",
    ),
)
