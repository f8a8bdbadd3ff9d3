"""HPS, the default engine: its options, and how it is opened."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from offline_bundle.runner.engines.hps.connection.server import Server
from offline_bundle.runner.engines.hps.options import JOBS_OPTIONS, OPTIONS
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

if TYPE_CHECKING:
    from offline_bundle.runner.engines.hps.jobs import HpsEngine

__all__ = ["JOBS_OPTIONS", "OPTIONS", "check_usage", "needs_directory", "open_engine"]

_INVALID = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What a document of a server with other types, fields or numbers may raise."""


def check_usage(options: Mapping[str, Any], *, bundle: str | None, wait: bool) -> None:
    """Raise `click.UsageError` for options that exclude each other."""
    if options["embedded"] and not wait:
        raise click.UsageError("--no-wait: the embedded HPS ends with this command; leave it out")
    for name in ("embedded", "ship_bundle"):
        if options[name] and not bundle:
            raise click.UsageError(f"--{name.replace('_', '-')} requires --bundle DIR")


def needs_directory(options: Mapping[str, Any]) -> bool:
    """Return True if results must be downloaded: those of an embedded HPS end with it."""
    return bool(options.get("embedded"))


@contextlib.contextmanager
def open_engine(options: Mapping[str, Any], notice: Callable[[str], None]) -> Iterator[HpsEngine]:
    """Sign in to a server, or to an embedded one; *options* are `OPTIONS` and `bundle`."""
    is_embedded, ship_bundle = bool(options.get("embedded")), bool(options.get("ship_bundle"))
    with contextlib.ExitStack() as stack:
        if is_embedded:
            bundle = Path(options["bundle"])
            server = stack.enter_context(_embedded_server(bundle, ship_bundle=ship_bundle))
        else:
            server = _server(options)
        # the client is imported late: the options must be fast to load
        from offline_bundle.runner.engines.hps.connection.session import connect
        from offline_bundle.runner.engines.hps.jobs import HpsEngine

        session = stack.enter_context(connect(server, notice=notice))
        try:
            yield HpsEngine(session, options, keep_running=not is_embedded)
        except _INVALID as error:
            raise BundleError(
                f"{server.url}: the answer is not as expected: {type(error).__name__}: {error}",
                hint="check that it is an HPS server of a version that this client supports",
            ) from error


def _server(options: Mapping[str, Any]) -> Server:
    from offline_bundle.runner.engines.hps.connection.password import find_password

    url, username = options["url"], options["username"]
    if not url:
        raise InputError(
            "no HPS server is named",
            hint="name one with -U/--url or the variable HPS_URL, or another --engine; "
            "`submit --embedded` starts a server for its jobs, which ends with them",
        )
    token, client_id = options["token"], options["client_id"]
    password = ""
    if not token and not client_id:
        password = find_password(url, username, options["password"])
    return Server(
        url=url,
        username=username,
        password=password,
        token=token or "",
        client_id=client_id or "",
        client_secret=options["client_secret"] or "",
        ca_file=options["ca_file"],
        is_insecure=options["insecure"],
    )


@contextlib.contextmanager
def _embedded_server(bundle: Path, *, ship_bundle: bool) -> Iterator[Server]:
    """Run an embedded HPS."""
    from offline_bundle.runner.engines.hps.bundle_upload import check_is_bundle
    from offline_bundle.runner.hps_server import EmbeddedHps, registered_uv

    check_is_bundle(bundle)
    with ThreadPoolExecutor(1) as threads:
        searching = threads.submit(registered_uv, None if ship_bundle else bundle)
        # importing the client takes as long as finding uv
        import offline_bundle.runner.engines.hps.connection.session  # noqa: F401

        software = {"uv": searching.result()}
    with (
        tempfile.TemporaryDirectory(prefix="embedded-hps-") as folder,
        EmbeddedHps(data=Path(folder), software=software) as hps,
    ):
        yield Server(url=hps.url, username=hps.username, password=hps.password)
