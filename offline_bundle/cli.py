"""The front door: the command group, and every error as text or JSON.

Errors go to stderr: the problem, then a hint. With `--json` they go to stdout instead, as
`{"error": {"code": ..., "message": ..., "hint": ...}}`.
"""

from __future__ import annotations

import atexit
import contextlib
import difflib
import gc
import importlib
import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from offline_bundle import __version__
from offline_bundle.wheelhouse.cli.kit.sections import SETTINGS
from offline_bundle.wheelhouse.cli.kit.settings import Defaults
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError
from offline_bundle.wheelhouse.runtime.processes import stop_ignoring_children
from offline_bundle.wheelhouse.runtime.text import printable_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

_INTERRUPTED = 130

# Command -> where it is defined, and its line in --help; in the order of use.
_COMMANDS = {
    "build": (
        "offline_bundle.builder.cli.build:build_command",
        "Build a bundle from scripts with inline dependencies.",
    ),
    "run": (
        "offline_bundle.runner.cli.run:run_command",
        "Run a script from a bundle, offline, once or many times.",
    ),
    "submit": (
        "offline_bundle.runner.cli.submit:submit_command",
        "Submit a script as jobs to HPS, a batch scheduler, or this machine.",
    ),
    "jobs": (
        "offline_bundle.runner.cli.jobs:jobs_command",
        "Show or wait for submitted jobs.",
    ),
    "embedded-hps": (
        "offline_bundle.runner.cli.hps_server:embedded_hps_command",
        "Start a small HPS on this machine, for trials.",
    ),
    "probe": (
        "offline_bundle.runner.cli.probe:probe_command",
        "Write node.json for `build --node`.",
    ),
    "verify": (
        "offline_bundle.wheelhouse.cli.verify:verify_command",
        "Check every file of a bundle against its manifest.",
    ),
    "audit": (
        "offline_bundle.wheelhouse.cli.audit:audit_command",
        "Check a bundle for known vulnerabilities and rule breaches.",
    ),
    "show": (
        "offline_bundle.builder.cli.show:show_command",
        "Show the contents of a bundle, or a key for CI caches.",
    ),
    "diff": (
        "offline_bundle.wheelhouse.cli.diff:diff_command",
        "Show the differences between two bundles.",
    ),
    "sign": (
        "offline_bundle.wheelhouse.cli.sign:sign_command",
        "Verify a bundle and sign it.",
    ),
    "pack": (
        "offline_bundle.wheelhouse.cli.pack:pack_command",
        "Pack a bundle, or its difference to another, into an archive.",
    ),
    "unpack": (
        "offline_bundle.wheelhouse.cli.unpack:unpack_command",
        "Verify archives and unpack them into a bundle.",
    ),
    "prune": (
        "offline_bundle.wheelhouse.cli.prune:prune_command",
        "Remove what no script in a bundle needs.",
    ),
    "cache": (
        "offline_bundle.wheelhouse.cli.cache:cache_command",
        "Show, verify, prune or clear the cache of this machine.",
    ),
    "demo": (
        "offline_bundle.runner.cli.demo:demo_command",
        "Build, verify, and run ten jobs without a network.",
    ),
    "doctor": (
        "offline_bundle.doctor:doctor_command",
        "Check what builds and jobs need on this machine.",
    ),
    "config": (
        "offline_bundle.wheelhouse.cli.config:config_command",
        "Show the settings, and where each is set.",
    ),
    "help": (
        "offline_bundle.help:help_command",
        "Show the manual of all commands, or of one.",
    ),
    "completion": (
        "offline_bundle.wheelhouse.cli.completion:completion_command",
        "Print a shell completion script.",
    ),
}


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is called: `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of use."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest similar names for an unknown one."""
        if args[0] not in _COMMANDS and not args[0].startswith("-"):
            message = f"no such command {args[0]!r}"
            if similar := difflib.get_close_matches(args[0], _COMMANDS):
                message += f"; did you mean {' or '.join(similar)}?"
            raise click.UsageError(message, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands without importing them, then the group's options."""
        from click.shell_completion import CompletionItem

        names = [name for name in _COMMANDS if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=_COMMANDS[name][1]) for name in names]
        return commands + click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=_LazyGroup, context_settings=SETTINGS, invoke_without_command=True)
@click.version_option(__version__, "-V", "--version", prog_name="offline-bundle")
@click.pass_context
def cli(context: click.Context) -> None:
    """Air-gapped bundles for Python scripts with inline dependencies (PEP 723), and their jobs."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> None:
    """Run `offline-bundle`."""
    _prepare_process()
    sys.exit(run_command_line(cli, sys.argv[1:], "offline-bundle"))


def build_main() -> None:
    """Run `build-offline-bundle`: the same as `offline-bundle build`."""
    _prepare_process()
    from offline_bundle.builder.cli.build import build_command

    sys.exit(run_command_line(build_command, sys.argv[1:], "build-offline-bundle"))


def run_command_line(command: click.Command, arguments: Sequence[str], name: str) -> int:
    """Run *command* and print its error, if any; return the exit code."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    show = _print_json if "--json" in options else _print_text
    defaults: dict[str, Any] = Defaults(str(command.name))
    if command is cli:
        defaults = {name: Defaults(name) for name in _COMMANDS}
    try:
        result = command.main(
            args=list(arguments),
            prog_name=name,
            standalone_mode=False,
            color=_color(),
            default_map=defaults,
        )
        sys.stdout.flush()  # a full disk behind `> FILE` shows here, not at exit
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted; run it again to continue", err=True)
        return _INTERRUPTED
    except click.ClickException as error:
        chosen = next(iter(arguments), "") if command is cli else ""
        problem = _as_bundle_error(error, f"{name} {chosen}" if chosen in _COMMANDS else name)
    except BundleError as error:
        problem = error
    except OSError as error:
        _discard_output()
        if isinstance(error, BrokenPipeError):
            return 1  # the reader of stdout has gone (`| head`)
        text = f"{error.filename or 'output'}: {error.strerror or error}"
        problem, show = BundleError(text, hint="correct that and run it again"), _print_text
    else:
        return result if isinstance(result, int) else 0
    with contextlib.suppress(OSError):  # stderr is full: the exit code remains
        show(problem)
    return problem.exit_code


def _prepare_process() -> None:
    """Set what is the same for the whole life of a command."""
    _prepare_streams()
    stop_ignoring_children()
    gc.set_threshold(10_000)  # importing makes many objects, and hardly any garbage
    atexit.register(gc.freeze)  # else Python examines all objects several times at its end


def _prepare_streams() -> None:
    """Open /dev/null for closed standard streams (`>&-`): else the next file takes the number.

    Characters that the encoding of stdout lacks are escaped, as Python does on stderr.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - stays open
            if stream.fileno() != number:
                os.dup2(stream.fileno(), number)
            setattr(sys, name, stream)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Connect stdout to /dev/null: Python flushes it once more at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _as_bundle_error(error: click.ClickException, name: str) -> BundleError:
    """Return an error of click with a hint, as all other errors have one."""
    message = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.NoSuchOption):
        message = f"no such option '{error.option_name}'"
        if error.possibilities:
            message += f"; did you mean {' or '.join(sorted(error.possibilities))}?"
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"see `{context.command_path if context else name} --help`"
    if isinstance(error, click.MissingParameter):
        hint = f"add it; {hint}"
    elif isinstance(error, click.BadParameter) and _is_path(error.param):
        hint = "check the path and its permissions"
        if error.param and error.param.name == "bundle":
            hint = "name the folder that a build wrote (-o), or that `unpack` created"
    elif isinstance(error, click.NoSuchOption) and context and _takes_arguments(context.command):
        hint = f"arguments for the script follow a `--`; {hint}"
    return InputError(message[:1].lower() + message[1:], hint=hint)


def _takes_arguments(command: click.Command) -> bool:
    return any(parameter.name == "arguments" for parameter in command.params)


def _is_path(parameter: click.Parameter | None) -> bool:
    return parameter is not None and isinstance(parameter.type, click.Path)


def _color() -> bool | None:
    """Return False if NO_COLOR is set (no-color.org); None lets click look for a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def _print_text(error: BundleError) -> None:
    click.secho("error: ", fg="red", bold=True, nl=False, err=True, color=_color())
    click.echo(printable_lines(str(error)), err=True)
    if error.hint:
        click.secho("hint: ", fg="cyan", bold=True, nl=False, err=True, color=_color())
        click.echo(printable_lines(error.hint), err=True)


def _print_json(error: BundleError) -> None:
    from offline_bundle.wheelhouse.cli.kit.output import error_document

    click.echo(json.dumps(error_document(error)))


if __name__ == "__main__":
    main()
