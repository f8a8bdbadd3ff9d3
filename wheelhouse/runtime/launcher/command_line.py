"""The command line of run.py."""

import argparse

from ..errors import InputError
from .prepare.cache_cleanup import DEFAULT_CACHE_LIMIT, UNUSED_DAYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_EPILOG = f"""\
Options come before SCRIPT; everything after it is passed to the script.
`run.py --cache TASK` looks after the cache of this node: size, list, prune, clear, verify.

Environment variables:
  OFFLINE_BUNDLE_CACHE      folder for environments, on this node and writable by you only
                            (default: XDG_CACHE_HOME/offline-bundle or ~/.cache/offline-bundle)
  OFFLINE_BUNDLE_CACHE_MAX  size limit of all environments (default: {DEFAULT_CACHE_LIMIT}); beyond
                            it, the least recently used are removed. Those unused for
                            {UNUSED_DAYS} days are always removed.
  OFFLINE_BUNDLE_PYTHON     same as --python
  OFFLINE_BUNDLE_UV         uv to use instead of the bundle's

The script does not see PYTHONPATH and PYTHONHOME: its packages come from the bundle."""


class CommandLineParser(argparse.ArgumentParser):
    """Reports errors as InputError."""

    def error(self, message: str) -> "NoReturn":
        """Raise InputError instead of printing the usage."""
        raise InputError(message, hint=f"see {self.prog} --help")


def parse_command_line(words: "Sequence[str]", default_bundle: str) -> argparse.Namespace:
    """Parse the command line; `command` is the script and its arguments.

    Raises InputError, and SystemExit after `--help`.
    """
    parser = CommandLineParser(
        prog="run.py",
        usage="python run.py [--bundle DIR] [--python PATH] [--prepare] [-q] [-v] SCRIPT [ARGS...]",
        description="Run a script from an offline bundle, in an environment made once per node.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--bundle",
        metavar="DIR",
        type=_not_empty,
        default=default_bundle,
        help="bundle to use (default: the folder of run.py)",
    )
    parser.add_argument(
        "--python",
        metavar="PATH",
        type=_not_empty,
        help="interpreter to use, or its version (default: search for one that fits)",
    )
    parser.add_argument(
        "--prepare", action="store_true", help="only make the environment, and print its folder"
    )
    verbosity = {"dest": "verbosity", "action": "store_const", "default": 0}
    parser.add_argument("-q", const=-1, help="print errors only", **verbosity)  # type: ignore[arg-type]
    parser.add_argument("-v", const=1, help="explain each choice", **verbosity)  # type: ignore[arg-type]
    parser.add_argument("command", nargs=argparse.PARSER, metavar="SCRIPT", help=argparse.SUPPRESS)
    options = parser.parse_args(list(words))
    if options.command[0] == "--":  # depends on the Python version
        del options.command[0]
    if not options.command:
        parser.error("the following arguments are required: SCRIPT")
    return options


def _not_empty(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the value is empty")
    return text
