"""Unpack the bundle's bytecode beside the installed packages."""

import os

from ...bytecode import bytecode_path, read_modules, source_of
from ...disk.files import create_file, remove_file
from ...errors import IntegrityError
from ...text import shown
from ..trusted_bundle import DAMAGED_HINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..request import Request
    from .plan import Plan


def lock_bytecode(plan: "Plan") -> "list[str]":
    """Return the bytecode files of the lock; none unless the bundle has that of every wheel.

    With a part of them, a module that two wheels install could get the bytecode of the wrong one.
    """
    manifest = plan.bundle.manifest
    python = manifest.targets[plan.target].python
    wheels = sorted({package.wheel for package in plan.lock.packages.values()})
    paths = [bytecode_path(wheel, python) for wheel in wheels]
    return paths if all(path in manifest.files for path in paths) else []


def install_bytecode(plan: "Plan", request: "Request", magic: bytes, folders: "list[str]") -> None:
    """Unpack the bytecode of the lock into the site-packages *folders*.

    *magic* is the magic number of the environment's interpreter. Where that of the bundle differs,
    nothing is unpacked and imports compile what they need. Raises IntegrityError (exit 5) for a
    file that differs from the manifest, or has anything but bytecode of installed modules.
    """
    packages = _SitePackages(folders)
    for path in lock_bytecode(plan):
        content = plan.bundle.read(path)
        try:
            for name, code in read_modules(content):
                if code[: len(magic)] != magic:
                    request.log(f"{path}: compiled by another Python, not used", 1)
                    break
                packages.add(name, code)
        except IntegrityError as error:
            message = f"{path} of the bundle is not used: {error.message}"
            raise IntegrityError(message, hint=DAMAGED_HINT) from None


class _SitePackages:
    """The site-packages folders of an environment; nothing is written through a link."""

    def __init__(self, folders: "list[str]") -> None:
        self._roots = list(dict.fromkeys(map(os.path.realpath, folders)))
        self._added: set[str] = set()
        self._real_folders: set[str] = set()

    def add(self, name: str, code: bytes) -> None:
        """Write the `.pyc` file *name*; raise IntegrityError unless its source is installed."""
        target = os.path.join(self._root_of(source_of(name)), *name.split("/"))
        remove_file(target)  # an import during the check of the environment may have written it
        if name in self._added:
            return  # two wheels have this module: which one is installed?
        self._added.add(name)
        with create_file(target) as file:
            file.write(code)

    def _root_of(self, source: str) -> str:
        """Return the folder with the file *source*; make its `__pycache__`."""
        for root in self._roots:
            path = os.path.join(root, *source.split("/"))
            if os.path.isfile(path):
                self._check_folder(os.path.dirname(path))
                return root
        message = f"{shown(source)} is not an installed module"
        raise IntegrityError(message, hint=DAMAGED_HINT)

    def _check_folder(self, folder: str) -> None:
        if folder in self._real_folders:
            return
        cache = os.path.join(folder, "__pycache__")
        if os.path.realpath(cache) != cache:
            message = f"{shown(cache)} is a link, or below one"
            raise IntegrityError(message, hint=DAMAGED_HINT)
        os.makedirs(cache, mode=0o700, exist_ok=True)
        self._real_folders.add(folder)
