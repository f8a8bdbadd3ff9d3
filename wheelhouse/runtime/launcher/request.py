"""What a launch asks for: script, bundle, interpreter."""

import os
import sys

from ..errors import BundleError, InputError
from ..names import MANIFEST
from ..pep723 import read_block
from ..policy import may_be_in_force, policy_state
from ..processes import explicit_program
from .cache_cleanup import DEFAULT_CACHE_LIMIT, UNUSED_DAYS
from .trusted_manifest import check_trust
from .warm_start import launch_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional


USAGE = f"""\
usage: python run.py [--bundle DIR] [--python PATH] [--prepare] [-q] [-v] SCRIPT [ARGS...]

Run a script from an offline bundle, in an environment that is made once for this node.

  --bundle DIR   the bundle (default: the folder of run.py)
  --python PATH  interpreter to use (default: search for one that fits)
  --prepare      only make the environment, and print its folder
  -q             say nothing but errors
  -v             say what is chosen, and why
  -h, --help     show this text

Options come before SCRIPT; all that follows it belongs to the script.

Environment variables:
  OFFLINE_BUNDLE_CACHE      folder for environments, of your own and on this node
                            (default: XDG_CACHE_HOME/offline-bundle, or ~/.cache/offline-bundle)
  OFFLINE_BUNDLE_CACHE_MAX  their size together (default: {DEFAULT_CACHE_LIMIT}); the longest unused go first,
                            and those that were not used for {UNUSED_DAYS} days go anyway
  OFFLINE_BUNDLE_PYTHON     as --python
  OFFLINE_BUNDLE_UV         uv to use instead of the bundle's

The script does not see PYTHONPATH and PYTHONHOME: its packages come from the bundle."""


def parse_command_line(argv: "list[str]") -> "Optional[dict[str, Any]]":
    """Return the arguments of `launch`, or None where help is asked for. argparse is slow to import."""
    options: "dict[str, Any]" = {}
    flags: "dict[str, dict[str, Any]]" = {
        "--prepare": {"prepare_only": True},
        "-q": {"verbosity": -1},
        "-v": {"verbosity": 1},
    }
    words = iter(argv)
    for word in words:
        name, assigned, value = word.partition("=")
        if word in ("-h", "--help"):
            return None
        if word in flags:
            options.update(flags[word])
        elif name in ("--bundle", "--python"):
            value = value if assigned else next(words, "")
            if not value:
                raise InputError(f"{name} needs a value", hint="run.py --help shows the options")
            options[name[2:]] = value
        elif word.startswith("-") and word != "--":
            raise InputError(
                f"there is no option {word} before SCRIPT", hint="run.py --help shows the options"
            )
        else:
            script = next(words, "") if word == "--" else word
            return (
                {**options, "script": script, "arguments": list(words)} if script else _no_script()
            )
    return _no_script()


def _no_script() -> "dict[str, Any]":
    raise InputError("no SCRIPT is given", hint="run.py --help shows the usage")


class Request:
    """What is asked for: a script, the bundle it shall come from, and perhaps an interpreter."""

    def __init__(
        self, script: str, bundle: "Optional[str]", python: "Optional[str]", verbosity: int
    ) -> None:
        python = python or os.environ.get("OFFLINE_BUNDLE_PYTHON")
        self.script = script
        self.name = os.path.basename(script)
        self.verbosity = verbosity
        self.bundle = _bundle_directory(bundle)
        self.block = _script_block(script, self.bundle)
        self.python = explicit_program(python, "interpreter") if python else None
        trust = check_trust(policy_state, self.bundle) if may_be_in_force() else []
        self.question = launch_key(self.bundle, self.python or "", self.name, self.block, trust)

    def say(self, message: str, verbosity: int = 0) -> None:
        """Tell the user on stderr, at this verbosity or a higher one."""
        if self.verbosity >= verbosity:
            print(message, file=sys.stderr, flush=True)


def _bundle_directory(bundle: "Optional[str]") -> str:
    folder = os.path.abspath(bundle or os.curdir)
    if not os.path.isfile(os.path.join(folder, MANIFEST)):
        raise InputError(
            f"{folder} is not a bundle: it has no {MANIFEST}",
            hint="name the folder that `build-offline-bundle -o DIR` made: --bundle DIR",
        )
    return folder


def _script_block(script: str, bundle: str) -> str:
    try:
        with open(script, "rb") as file:
            block = read_block(file.read().decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{script} is not UTF-8: {error}", hint="save it as UTF-8") from None
    except OSError as error:
        bundled = os.path.join(bundle, "scripts", os.path.basename(script))
        hint = f"the bundle has {bundled}" if os.path.isfile(bundled) else None
        raise InputError(f"{script} cannot be read: {error.strerror}", hint=hint) from None
    except BundleError as error:
        raise InputError(f"{script}: {error.message}", hint=error.hint) from None
    if block is None:
        raise InputError(
            f"{script} has no inline metadata",
            hint="begin it with a `# /// script` block that lists its dependencies (PEP 723)",
        )
    return block
