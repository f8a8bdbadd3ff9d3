"""What a launch asks for: script, bundle, interpreter."""

import os
import stat
import sys
from contextlib import suppress

from ..bundle.policy import may_be_in_force, policy_state
from ..disk.files import open_regular, sha256_of
from ..errors import InputError
from ..names import MANIFEST
from ..processes import explicit_program
from ..python.interpreters import requested_minor
from ..python.pep723 import read_block
from ..text import printable_lines
from .trusted_bundle import name_bundle, name_in_bundle
from .warm_start import launch_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


class Request:
    """A script, the bundle that it is started from, and perhaps an interpreter."""

    def __init__(
        self, script: str, bundle: "Optional[str]", python: "Optional[str]", verbosity: int
    ) -> None:
        python = python or os.environ.get("OFFLINE_BUNDLE_PYTHON")
        self._arguments = (script, bundle, python, verbosity)
        self.script = script
        self.name = os.path.basename(script)
        self.verbosity = verbosity
        self.bundle = _bundle_folder(bundle)
        self.source = _read_script(script, self.bundle)
        self.block = _script_block(script, self.bundle, self.source)
        if python and not requested_minor(python):
            python = explicit_program(python, "interpreter")
        self.python = python or None
        self.bundled_name: Optional[str] = None
        """Path in the bundle of a script that must match the manifest: under a policy only."""
        policies: list[str] = []
        if may_be_in_force():
            with name_bundle(self.bundle):
                policies = policy_state(self.bundle)
            self.bundled_name = name_in_bundle(script, self.bundle)
            policies += [sha256_of(self.source)] if self.bundled_name else []
        self.key = launch_key(self.bundle, self.python or "", self.name, self.block, policies)

    def is_current(self) -> bool:
        """Return whether the script's metadata and the bundle are still the same."""
        return Request(*self._arguments).key == self.key

    def log(self, message: str, verbosity: int = 0) -> None:
        """Print a message on stderr, at this verbosity or a higher one."""
        if self.verbosity >= verbosity:
            with suppress(OSError):  # a full disk of the job's log does not stop the job
                print(printable_lines(message), file=sys.stderr, flush=True)


def _bundle_folder(bundle: "Optional[str]") -> str:
    folder = os.path.abspath(bundle or os.curdir)
    path = os.path.join(folder, MANIFEST)
    try:
        is_bundle = stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_bundle = False
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise InputError(message, hint="check the permissions of its folders") from None
    if not is_bundle:
        raise InputError(
            f"{folder} is not a bundle: it has no {MANIFEST}",
            hint="name the folder that `build-offline-bundle -o DIR` wrote: --bundle DIR",
        )
    return folder


def _script_block(script: str, bundle: str, source: bytes) -> str:
    try:
        block = read_block(source.decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{script} is not UTF-8: {error}", hint="save it as UTF-8") from None
    except InputError as error:
        error.add_subject(script)
        raise
    if block is None:
        block = _bundled_block(script, bundle)
    if block is None:
        message = f"{script} has no inline metadata, and the bundle has no script of this name"
        hint = "begin it with a `# /// script` block that lists its dependencies (PEP 723)"
        stem, suffix = os.path.splitext(os.path.basename(script))
        runner = os.path.join(bundle, "scripts", stem + ".py")
        if suffix == ".ipynb" and os.path.isfile(runner):
            message = f"{script} is a notebook: the bundle has a script that runs it"
            hint = f"start that script: {runner}"
        raise InputError(message, hint=hint)
    return block


def _bundled_block(script: str, bundle: str) -> "Optional[str]":
    """Return the metadata of the bundle's script with the same name, or None.

    A build adds it where the script has none (`build --requirements`).
    """
    try:
        path = os.path.join(bundle, "scripts", os.path.basename(script))
        with open_regular(path, follow_links=True) as file:
            return read_block(file.read().decode())
    except (OSError, UnicodeDecodeError, InputError):
        return None


def _read_script(script: str, bundle: str) -> bytes:
    try:
        mode = os.stat(script).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            # Python opens the script again, and would find an emptied pipe.
            raise InputError(f"{script} is not a regular file", hint="save the script to one")
        with open(script, "rb") as file:
            return file.read()
    except OSError as error:
        bundled = os.path.join(bundle, "scripts", os.path.basename(script))
        hint = f"the bundle has {bundled}" if os.path.isfile(bundled) else None
        raise InputError(f"{script} cannot be read: {error.strerror}", hint=hint) from None
