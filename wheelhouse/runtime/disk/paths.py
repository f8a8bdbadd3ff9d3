"""Path rules of the bundle format."""

import re

from ..names import MANIFEST, SIGNATURE, WRITER
from ..text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Optional


_LONGEST_PATH, _LONGEST_NAME = 1024, 255
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_.+!-]*[A-Za-z0-9_+!-](/[A-Za-z0-9_.+!-]*[A-Za-z0-9_+!-])*")
_WHEEL = re.compile(r"wheels/[^-/\s]+-[^-/\s]*[0-9][^-/\s]*(-[0-9][^-/\s]*)?(-[^-/\s]+){3}\.whl")
# A looser rule than that of installers; `offline-bundle` checks more.
_FOREIGN = frozenset('\\:<>"|?*')
_DEVICE = re.compile(r"/(?i:con|prn|aux|nul|com[0-9]|lpt[0-9]) *(?:\.[^/]*)?(?:/|$)")


def path_problems(paths: "Collection[str]") -> "Iterator[tuple[str, str]]":
    """Yield each path that is unsafe, or is not a wheel's name, or collides with another.

    Paths collide where a file system ignores case or normalizes Unicode.
    """
    spellings: dict[str, str] = {}
    folders: set[str] = set()
    for path in paths:
        reason = unsafe_path(path)
        if reason:
            yield path, f"unsafe path: {reason}"
            continue
        if path.startswith("wheels/") and path.endswith(".whl") and not _WHEEL.fullmatch(path):
            yield path, "not the name of a wheel"
        for whole in (path, *_new_parents(path, folders)):
            other = spellings.setdefault(_caseless(whole), whole)
            if other != whole:
                yield path, f"{shown(whole)} collides with {shown(other)}"
            if whole is not path and whole in paths:
                yield path, f"{shown(whole)} is a file, not a folder"


def is_plain(path: str) -> bool:
    """Return whether *path* of an archive is short, printable, and means the same on Windows."""
    return len(path) <= _LONGEST_PATH and path.isprintable() and not {"\\", ":"} & set(path)


def unsafe_path(path: str) -> "Optional[str]":
    """Return why *path* cannot be that of a file in a bundle, or None if it can.

    Bundles are copied through all kinds of file systems. So paths that mean something else to
    Windows are unsafe too: backslashes, drives, streams, devices, a dot or blank at the end.
    """
    if len(path) > _LONGEST_PATH:
        return f"it is longer than {_LONGEST_PATH} characters"
    if len(path) > _LONGEST_NAME or not _PLAIN_PATH.fullmatch(path):
        reason = _unsafe_text(path) or _unsafe_component(path)
        if reason:
            return reason
    if _DEVICE.search(f"/{path}"):
        return "Windows has a device of that name"
    first = path.split("/", 1)[0].casefold()
    if first == WRITER:
        return f"{WRITER}/ belongs to the writer"
    if path.casefold() in {MANIFEST, SIGNATURE}:
        return "the manifest cannot name itself"
    return None


def _unsafe_text(path: str) -> "Optional[str]":
    if not path:
        return "it is empty"
    if not path.isprintable():
        return "it has characters that cannot be printed"
    foreign = "".join(sorted(_FOREIGN.intersection(path)))
    if foreign:
        return f"Windows has no {foreign} in names"
    return None


def _unsafe_component(path: str) -> "Optional[str]":
    for component in path.split("/"):
        if not component:
            return "it is absolute" if path.startswith("/") else "it has an empty component"
        if len(component.encode()) > _LONGEST_NAME:
            return f"it has a name longer than {_LONGEST_NAME} bytes"
        if component in {".", ".."}:
            return f"it has a component {component}"
        if component[-1] in ". ":
            return "Windows drops a dot or space at the end of a name"
    return None


def _new_parents(path: str, folders: "set[str]") -> "Iterator[str]":
    """Yield the folders above *path* that are not in *folders* yet, and add them."""
    folder = path.rpartition("/")[0]
    while folder and folder not in folders:
        folders.add(folder)
        yield folder
        folder = folder.rpartition("/")[0]


def _caseless(path: str) -> str:
    if path.isascii():
        return path.lower()
    import unicodedata  # seldom needed, and not every Python has it

    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
