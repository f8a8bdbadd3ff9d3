"""The command line as it was given, without secrets: for the page of results."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECRETS = {"password", "token", "client_secret"}


def given_command(context: click.Context) -> str:
    """Return the command line; passwords are left out, and values of variables are hidden."""
    words = ["offline-bundle", str(context.command.name)]
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is click.core.ParameterSource.COMMANDLINE and parameter.name not in _SECRETS:
            words += _words(parameter, context.params[str(parameter.name)])
    return shlex.join(words)


def _words(parameter: click.Parameter, value: Any) -> Iterator[str]:  # noqa: ANN401 - of any option
    values = value if parameter.multiple or parameter.nargs == -1 else [value]
    for item in values:
        if not isinstance(parameter, click.Option):
            yield str(item)
        elif parameter.is_flag:
            yield parameter.opts[-1]
        else:
            # a variable may be a license key or a token
            hidden = f"{str(item).partition('=')[0]}=..." if parameter.name == "environment" else ""
            yield from (parameter.opts[-1], hidden or str(item))
