"""The front door: one command group, whose commands are loaded when they are called.

Errors of ours are shown here and nowhere else: what is wrong, and what to do next, on stderr; with `--json` the same
on stdout as `{"error": {"code": …, "message": …, "hint": …}}`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import TYPE_CHECKING

import click

from offline_bundle import __version__
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from click.shell_completion import CompletionItem

# Command -> where it is defined, and its line in --help.
_COMMANDS = {
    "build": (
        "offline_bundle.builder.cli.build",
        "build_command",
        "Build a bundle from scripts with inline dependencies.",
    ),
    "run": (
        "offline_bundle.runner.cli.run",
        "run_command",
        "Run a script from a bundle, offline, once or many times.",
    ),
    "submit": (
        "offline_bundle.runner.cli.submit",
        "submit_command",
        "Run a script as jobs, by HPS, by Slurm, or here.",
    ),
    "jobs": ("offline_bundle.runner.cli.submit", "jobs_command", "Come back to jobs."),
    "embedded-hps": (
        "offline_bundle.runner.cli.hps_server",
        "embedded_hps_command",
        "A small HPS on this machine, for trying.",
    ),
    "probe": (
        "offline_bundle.runner.cli.probe",
        "probe_command",
        "Describe this node, for those who build bundles for it.",
    ),
    "verify": (
        "offline_bundle.wheelhouse.cli.verify",
        "verify_command",
        "Check every file of a bundle against its manifest.",
    ),
    "show": (
        "offline_bundle.builder.cli.show",
        "show_command",
        "Show what a bundle holds, or a key for CI caches.",
    ),
    "diff": (
        "offline_bundle.wheelhouse.cli.review",
        "diff_command",
        "Show what differs between two bundles.",
    ),
    "sign": (
        "offline_bundle.wheelhouse.cli.review",
        "sign_command",
        "Verify a bundle and sign it.",
    ),
    "pack": (
        "offline_bundle.wheelhouse.cli.archive",
        "pack_command",
        "Make one archive of a bundle, or of what another lacks.",
    ),
    "unpack": (
        "offline_bundle.wheelhouse.cli.archive",
        "unpack_command",
        "Verify archives and bring them into a bundle.",
    ),
    "prune": (
        "offline_bundle.wheelhouse.cli.review",
        "prune_command",
        "Remove what no script needs any more.",
    ),
    "demo": (
        "offline_bundle.runner.cli.demo",
        "demo_command",
        "Build, verify, and run ten jobs with the network cut.",
    ),
    "completion": (
        "offline_bundle.wheelhouse.cli.completion",
        "completion_command",
        "Complete words at the Tab key of a shell.",
    ),
}
_INTERRUPTED = 130


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is called: `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of a user's day, not of the alphabet."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands without importing them, then the group's options."""
        from click.shell_completion import CompletionItem

        names = [name for name in _COMMANDS if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=_COMMANDS[name][2]) for name in names]
        return commands + click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="offline-bundle")
def cli() -> None:
    """Air-gapped bundles for Python scripts with inline dependencies (PEP 723), and jobs that run from them."""


def main() -> None:
    """Run `offline-bundle`."""
    sys.exit(run_command_line(cli, sys.argv[1:], "offline-bundle"))


def build_main() -> None:
    """Run `build-offline-bundle`: the same as `offline-bundle build`."""
    from offline_bundle.builder.cli.build import build_command

    sys.exit(run_command_line(build_command, sys.argv[1:], "build-offline-bundle"))


def run_command_line(command: click.Command, arguments: Sequence[str], name: str) -> int:
    """Run *command*; return the exit code after showing what went wrong."""
    wants_json = (
        "--json" in arguments[: arguments.index("--")]
        if "--" in arguments
        else "--json" in arguments
    )
    show: Callable[[BundleError], None] = _show_json if wants_json else _show_text
    try:
        result = command.main(
            args=list(arguments), prog_name=name, standalone_mode=False, color=_color()
        )
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return _INTERRUPTED
    except KeyboardInterrupt:
        click.echo("interrupted; run it again to go on", err=True)
        return _INTERRUPTED
    except click.ClickException as error:
        show(_as_ours(error, name))
        return error.exit_code
    except BundleError as error:
        show(error)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): nothing left to say to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return result if isinstance(result, int) else 0


def _as_ours(error: click.ClickException, name: str) -> BundleError:
    """What click says of the command line, in the shape that all our errors have."""
    message = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else name
    hint = f"`{path} --help` lists what can be given"
    if isinstance(error, click.BadParameter) and error.param is not None:
        if isinstance(error, click.MissingParameter):
            hint = f"add it; {hint}"
        elif isinstance(error.param.type, click.Path):
            hint = "check the path and its permissions"
    return InputError(message[:1].lower() + message[1:], hint=hint)


def _color() -> bool | None:
    """False where colours are not wanted (no-color.org); None leaves it to whether a terminal is there."""
    return False if os.environ.get("NO_COLOR") else None


def _show_text(error: BundleError) -> None:
    click.secho("error: ", fg="red", bold=True, nl=False, err=True, color=_color())
    click.echo(str(error), err=True)
    if error.hint:
        click.secho("hint: ", fg="cyan", bold=True, nl=False, err=True, color=_color())
        click.echo(error.hint, err=True)


def _show_json(error: BundleError) -> None:
    _print_json(error.exit_code, str(error), error.hint)


def _print_json(code: int, message: str, hint: str | None) -> None:
    click.echo(json.dumps({"error": {"code": code, "message": message, "hint": hint}}))


if __name__ == "__main__":
    main()
