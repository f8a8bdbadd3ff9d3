"""Unpack the bundle's bytecode beside the installed packages."""

import os
import shutil
import threading
from dataclasses import dataclass

from ...bytecode import read_modules, source_of
from ...disk.files import create_file, remove_file
from ...errors import IntegrityError
from ...text import shown
from ..trusted_bundle import DAMAGED_HINT
from .contents import checksums

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Self

    from ..request import Request
    from .plan import Plan

_MAGIC_SIZE = 4


@dataclass(frozen=True)
class _Module:
    """One unpacked `.pyc` file."""

    archive: str
    name: str
    """Its path below site-packages."""
    magic: bytes
    file: str
    """Where it is until it is placed."""
    checksums: "list[int]"


class UnpackedBytecode:
    """The bytecode of a lock, which a thread unpacks into *folder* while the wheels are installed.

    The thread checks each file against the manifest first. As a context manager, it waits for the
    thread at the end, and removes the folder.
    """

    def __init__(self, plan: "Plan", request: "Request", folder: str) -> None:
        self.placed: dict[str, list[int]] = {}
        """Path of each placed file -> its checksums."""
        self._plan = plan
        self._request = request
        self._folder = folder
        self._modules: list[_Module] = []
        self._error: Optional[BaseException] = None
        self._thread = threading.Thread(target=self._unpack)

    def __enter__(self) -> "Self":
        os.mkdir(self._folder, 0o700)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was not placed."""
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def place(self, magic: bytes, folders: "list[str]") -> None:
        """Move the bytecode into the site-packages *folders*.

        *magic* is the magic number of the environment's interpreter. Where that of the bundle
        differs, imports compile what they need. Raises IntegrityError (exit 5) for a file that
        differs from the manifest, or has anything but bytecode of installed modules.
        """
        self._thread.join()
        if self._error:
            raise self._error
        packages, others = _SitePackages(folders), set()
        for module in self._modules:
            if module.magic != magic:
                others.add(module.archive)
                continue
            try:
                path = packages.add(module.name, module.file)
            except IntegrityError as error:
                raise _not_used(module.archive, error) from None
            self.placed.pop(path, None)
            if os.path.exists(path):
                self.placed[path] = module.checksums
        for archive in sorted(others):
            self._request.log(f"{archive}: compiled by another Python, not used", 1)

    def _unpack(self) -> None:
        try:
            for path in self._plan.bytecode():
                content = self._plan.bundle.read(path)
                try:
                    self._unpack_one(path, content)
                except IntegrityError as error:
                    raise _not_used(path, error) from None
        except BaseException as error:  # noqa: BLE001 - raised by place()
            self._error = error

    def _unpack_one(self, path: str, content: bytes) -> None:
        for name, code in read_modules(content):
            # a number, so that no name of the archive counts before place() has checked it
            file = os.path.join(self._folder, str(len(self._modules)))
            with create_file(file) as stream:
                stream.write(code)
            magic = code[:_MAGIC_SIZE]
            self._modules.append(_Module(path, name, magic, file, checksums(code)))


def _not_used(path: str, error: IntegrityError) -> IntegrityError:
    return IntegrityError(f"{path} of the bundle is not used: {error.message}", hint=DAMAGED_HINT)


class _SitePackages:
    """The site-packages folders of an environment; nothing is written through a link."""

    def __init__(self, folders: "list[str]") -> None:
        self._roots = list(dict.fromkeys(map(os.path.realpath, folders)))
        self._added: set[str] = set()
        self._real_folders: set[str] = set()

    def add(self, name: str, file: str) -> str:
        """Move *file* to the `.pyc` file *name*; return its path.

        Raises IntegrityError if its source is not installed.
        """
        source = source_of(name)
        target = os.path.join(self._root_of(source), name)
        if name in self._added:
            remove_file(target)
            return target  # two wheels have this module: which one is installed?
        self._added.add(name)
        os.replace(file, target)  # also over what an import during the installation wrote
        return target

    def _root_of(self, source: str) -> str:
        """Return the folder with the file *source*; make its `__pycache__`."""
        for root in self._roots:
            path = os.path.join(root, source)
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
