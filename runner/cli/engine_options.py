"""The options of engines: all of them in one command, each allowed with its own engines only."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from offline_bundle.runner.engine import ENGINES, engine_module
from offline_bundle.wheelhouse.cli.kit.sections import parameters_of, write_sections
from offline_bundle.wheelhouse.cli.kit.settings import origin_in_bundle
from offline_bundle.wheelhouse.runtime.disk.files import sha256_of
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
    """A command whose help groups options by engine.

    *sections* has parameter name -> title of its section, for options of no engine.
    """

    def __init__(
        self,
        name: str | None,
        sections: Mapping[str, str] | None = None,
        **settings: Any,  # noqa: ANN401 - click's
    ) -> None:
        super().__init__(name, **settings)
        self._sections = sections or {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the common options, then those of each engine."""
        owned = _options_of("OPTIONS")
        owners: dict[str, list[str]] = {}
        for engine, names in owned.items():
            for name in names:
                owners.setdefault(name, []).append(engine)
        titles = {name: f"With --engine {' or '.join(owners[name])}" for name in owners}
        write_sections(self, ctx, formatter, {**self._sections, **titles})


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
    """Raise InputError for a server that only a bundle names, unless a policy accepts the bundle.

    A server gets the password, and its program for the transfer of files runs on this machine.
    Certificates of a bundle are for its own server only.
    """
    origin, url = origin_in_bundle(context, "url"), options["url"]
    if origin is None:
        if origin_in_bundle(context, "ca_file"):
            options["ca_file"] = None
    elif not _is_signed(Path(origin), url):
        raise InputError(
            f"{origin} names the server {url}, which a bundle without a checked signature cannot",
            hint=f"if you trust the server, name it: -U {shlex.quote(url)}",
        )


def _is_signed(path: Path, url: str) -> bool:
    """Return whether the settings at *path* are signed, as the site's policy requires.

    Raises SignatureError if the policy does not accept the bundle.
    """
    from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest
    from offline_bundle.wheelhouse.runtime.bundle.policy import may_be_in_force, trusted_manifest

    if not may_be_in_force():
        return False
    manifest, content = trusted_manifest(str(path.parent))[0], path.read_bytes()
    listed = Manifest.from_json(manifest).files.get(path.name)
    is_same = listed is not None and listed.sha256 == sha256_of(content)
    return is_same and tomllib.loads(content.decode()).get("url") == url
