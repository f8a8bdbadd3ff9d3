"""The options of engines: all of them in one command, each allowed with its own engines only."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from offline_bundle.runner.engine import ENGINES, engine_module
from offline_bundle.wheelhouse.cli.kit.sections import parameters_of
from offline_bundle.wheelhouse.cli.kit.settings import origin_in_bundle
from offline_bundle.wheelhouse.runtime.errors import InputError, IntegrityError

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def engine_options(attribute: str) -> Callable[[_Command], _Command]:
    """Add the options of all engines, each once."""

    def add(command: _Command) -> _Command:
        options = [option for name in ENGINES for option in getattr(engine_module(name), attribute)]
        for option in reversed(dict.fromkeys(options)):
            option(command)
        return command

    return add


def engine_titles(attribute: str) -> dict[str, str]:
    """Return parameter name -> title of its section in the help, for the options of engines."""
    owners = _owners(attribute)
    return {name: f"With --engine {' or '.join(engines)}" for name, engines in owners.items()}


def _owners(attribute: str) -> dict[str, list[str]]:
    """Return parameter name -> the engines that have it."""
    owners: dict[str, list[str]] = {}
    for engine in ENGINES:
        for parameter in parameters_of(getattr(engine_module(engine), attribute)):
            owners.setdefault(str(parameter.name), []).append(engine)
    return owners


def take_engine_options(
    context: click.Context, attribute: str, engine: str, given: dict[str, Any]
) -> dict[str, Any]:
    """Remove the options of engines from *given*; return those of *engine*.

    Raises UsageError if the command line has an option of another engine.
    """
    owners_of = _owners(attribute)
    own = {name: given[name] for name, engines in owners_of.items() if engine in engines}
    for parameter in context.command.params:
        owners = owners_of.get(str(parameter.name), [])
        is_given = (
            context.get_parameter_source(str(parameter.name))
            is click.core.ParameterSource.COMMANDLINE
        )
        if owners and engine not in owners and is_given:
            raise click.UsageError(
                f"{parameter.opts[-1]} is an option of the engine {' or '.join(owners)}: "
                f"add --engine {owners[0]}, or leave it out"
            )
        if owners:
            given.pop(str(parameter.name), None)
    if "url" in own and not own.get("embedded"):
        _check_server(context, own)
    return own


def _check_server(context: click.Context, options: dict[str, Any]) -> None:
    """Raise InputError for a server that only a bundle names, unless a policy accepts the bundle.

    A server gets the password, and its program for the transfer of files runs on this machine.
    Certificates of a bundle are for its own server only.
    """
    origin, url = origin_in_bundle(context, "url"), options["url"]
    if origin is None:
        if origin_in_bundle(context, "ca_file"):
            options["ca_file"] = None
    elif not _is_signed(Path(origin), url, options.get("ca_file")):
        raise InputError(
            f"{origin} names the server {url}, which a bundle without a checked signature cannot",
            hint=f"if you trust the server, name it: -U {shlex.quote(url)}",
        )


def _is_signed(path: Path, url: str, ca_file: str | None) -> bool:
    """Return whether the settings at *path* are signed, as the site's policy requires.

    Raises SignatureError if the policy does not accept the bundle, and IntegrityError for
    certificates in it that differ from the manifest.
    """
    from offline_bundle.wheelhouse.runtime.bundle.policy import may_be_in_force
    from offline_bundle.wheelhouse.runtime.launcher import trusted_bundle

    if not may_be_in_force():
        return False
    bundle = trusted_bundle.open_bundle(str(path.parent))
    try:
        settings = tomllib.loads(bundle.read(path.name).decode())
    except IntegrityError:
        return False
    name = trusted_bundle.name_in_bundle(ca_file, bundle.folder) if ca_file else None
    if name:
        bundle.read(name)
    return settings.get("url") == url
