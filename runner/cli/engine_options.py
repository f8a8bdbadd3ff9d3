"""The options of engines: all of them in one command, each allowed with its own engines only."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, TypeVar

import click

from offline_bundle.runner.engine import ENGINES, engine_module
from offline_bundle.wheelhouse.cli.kit.sections import parameters_of, write_sections
from offline_bundle.wheelhouse.cli.kit.settings import origin_in_bundle
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

_SECRETS = ("password", "token", "client_secret")
_Command = TypeVar("_Command", bound="Callable[..., Any]")


def engine_options(attribute: str) -> Callable[[_Command], _Command]:
    """Add the options of all engines, each once."""

    def add(command: _Command) -> _Command:
        options = [option for name in ENGINES for option in getattr(engine_module(name), attribute)]
        for option in reversed(dict.fromkeys(options)):
            option(command)
        return command

    return add


class EngineCommand(click.Command):
    """A command whose help groups options by engine."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the common options, then those of each engine."""
        owned = _options_of("OPTIONS")
        owners: dict[str, list[str]] = {}
        for engine, names in owned.items():
            for name in names:
                owners.setdefault(name, []).append(engine)
        titles = {name: f"With --engine {' or '.join(owners[name])}" for name in owners}
        write_sections(self, ctx, formatter, titles)


def _options_of(attribute: str) -> dict[str, tuple[str, ...]]:
    """Return the parameter names of the options of each engine."""
    return {
        name: tuple(
            str(parameter.name)
            for parameter in parameters_of(getattr(engine_module(name), attribute))
        )
        for name in ENGINES
    }


def take_engine_options(
    context: click.Context, attribute: str, engine: str, given: dict[str, Any]
) -> dict[str, Any]:
    """Remove the options of engines from *given*; return those of *engine*.

    Raises UsageError if the command line has an option of another engine.
    """
    names = _options_of(attribute)
    own = {name: given[name] for name in names[engine]}
    for parameter in context.command.params:
        owners = [other for other in names if parameter.name in names[other]]
        is_given = (
            context.get_parameter_source(str(parameter.name))
            is click.core.ParameterSource.COMMANDLINE
        )
        if owners and engine not in owners and is_given:
            raise click.UsageError(
                f"{parameter.opts[-1]} is an option of the engine {' and '.join(owners)}: "
                f"add --engine {owners[0]}, or leave it out"
            )
        if owners:
            given.pop(str(parameter.name), None)
    if "url" in own and not own.get("embedded"):
        _check_server(context, own)
    return own


def _check_server(context: click.Context, options: dict[str, Any]) -> None:
    """Give a server that a bundle names no secret that may be another one's; raises InputError.

    Certificates of a bundle are for its own server only.
    """
    origin = origin_in_bundle(context, "url")
    if origin is None and origin_in_bundle(context, "ca_file"):
        options["ca_file"] = None
    if origin and any(options.get(name) for name in _SECRETS):
        raise InputError(
            f"{origin} names the server {options['url']}: "
            "it does not get a given password or token",
            hint=f"add -U {shlex.quote(options['url'])} if you trust it; "
            "without HPS_PASSWORD and HPS_TOKEN, the password is asked for",
        )
