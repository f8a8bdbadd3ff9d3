"""`run.py --cache TASK`: look after the cache of a node where nothing is installed."""

import argparse
import json

from ...errors import InputError, print_error
from ...sizes import parse_size
from ..command_line import CommandLineParser
from .entries import KINDS
from .tasks import TASKS, run_cache_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(words: "Sequence[str]") -> int:
    """Run a task; return the exit code. Raises BundleError, and SystemExit after `--help`."""
    parser = CommandLineParser(
        prog="run.py --cache",
        description="Look after the cache folder of this node.",
        allow_abbrev=False,
    )
    parser.add_argument("task", metavar="TASK", choices=TASKS, help=", ".join(TASKS))
    kinds = f"clear: {', '.join(KINDS)}"
    parser.add_argument("kinds", metavar="KIND", nargs="*", default=[], help=kinds)
    parser.add_argument("--days", type=float, help="prune: remove what was not used for DAYS")
    parser.add_argument("--max-size", type=_size, help="prune: then remove down to MAX_SIZE")
    parser.add_argument("--repair", action="store_true", help="verify: remove corrupt entries")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(list(words))
    result = run_cache_task(
        options.task,
        options.kinds,
        days=options.days,
        limit=options.max_size,
        repair=options.repair,
    )
    if options.json:
        print(json.dumps(result.document, indent=1))
        return result.error.exit_code if result.error else 0
    for line in result.lines:
        print(line)
    return print_error(result.error) if result.error else 0


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(error.message) from None
