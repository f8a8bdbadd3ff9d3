"""Keep good parts between attempts at unpacking."""

import os
import re

from ..commit import check_is_bundle_folder
from ..files import copy_range, create_file, open_given, real_folder, remove_file, remove_tree
from ..names import WRITER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from typing import Optional, Union

    from .reader import Archive

    PathLike = Union[str, os.PathLike[str]]


def keep_good_parts(archive: "Archive", directory: "PathLike", bad: "Container[str]") -> None:
    """Keep the parts of *archive* that are not *bad* in *directory*, so that only the bad ones need to come again.

    Without a list of parts the bad ones are but suspected, and are kept as well: what comes again replaces them.
    """
    volume = archive.volume
    kept = [
        part
        for part in volume.parts
        if part.number and (part.name not in bad or volume.index is None)
    ]
    if kept:
        keep_parts(
            part_store(directory, archive.name),
            {part.number: part.path for part in kept},
            volume.index,
        )


def forget_parts(archive: "Archive", directory: "PathLike") -> None:
    """Remove the parts that were kept of *archive*: it is unpacked."""
    store = part_store(directory, archive.name)
    if os.path.isdir(store) and not os.path.islink(os.path.dirname(store)):
        remove_tree(store)
        try:
            os.rmdir(os.path.dirname(store))
        except OSError:  # another archive waits for its parts
            pass


def part_store(directory: "PathLike", archive: str) -> str:
    return os.path.join(os.fspath(directory), WRITER, "parts", archive)


def kept_parts(store: "Optional[str]") -> "dict[int, str]":
    """Find what an earlier run has kept, by number; the list of parts is number 0."""
    if store is None or not os.path.isdir(store) or os.path.islink(store):
        return {}
    names = os.listdir(store)
    return {
        int(name): os.path.join(store, name) for name in names if re.fullmatch(r"[0-9]{1,6}", name)
    }


def keep_parts(store: "Optional[str]", parts: "Mapping[int, str]", index: "Optional[str]") -> None:
    if store is None:
        return
    directory = os.path.dirname(os.path.dirname(os.path.dirname(store)))
    check_is_bundle_folder(directory)
    os.makedirs(directory, exist_ok=True)
    real_folder(directory, f"{WRITER}/parts/{os.path.basename(store)}")
    for number, source in {**parts, **({0: index} if index else {})}.items():
        place = os.path.join(store, str(number))
        if os.path.abspath(source) != os.path.abspath(place):
            _keep(source, place)


def _keep(source: str, place: str) -> None:
    descriptor = open_given(source)
    try:
        remove_file(place + ".new")
        with create_file(place + ".new") as file:
            copy_range(descriptor, 0, os.fstat(descriptor).st_size, file.fileno())
    finally:
        os.close(descriptor)
    os.replace(place + ".new", place)
