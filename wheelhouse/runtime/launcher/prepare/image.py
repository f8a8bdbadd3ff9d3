"""Open the image of a lock on this node: mounted, or unpacked by unsquashfs or without it."""

import json
import os
import shutil
import subprocess

from ...disk.file_identity import read_regular
from ...errors import IntegrityError
from ...processes import find_program, tool_variables
from ..images.mount import FOLDER, mount_image
from ..os_errors import no_space
from ..trusted_bundle import DAMAGED_HINT
from ..warm_start import marker_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO

    from ..request import Request
    from .plan import Plan

_UNPACK_OPTIONS = ("-no-progress", "-no-xattrs", "-d")


_SECOND = 1_000_000_000


def image_identity(image: "FileIO") -> "list[int] | None":
    """Return what differs if a file was changed or replaced, without reading it.

    None on file systems that count whole seconds: a change could go unnoticed there.
    """
    state = os.fstat(image.fileno())
    identity = [state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    return identity if state.st_ctime_ns % _SECOND else None


def verified_identity(home: str) -> object:
    """Return the identity of the image whose digest an earlier start has checked, or None."""
    try:
        return json.loads(read_regular(marker_path(home))).get("image")
    except (OSError, ValueError, AttributeError):
        return None


def mount_checked(
    home: str, plan: "Plan", request: "Request", verified: object
) -> "list[int] | None":
    """Mount the image in *home*/FOLDER; return its identity.

    It is not read if it has the identity that was *verified*: once per node is enough. What was
    checked is mounted: both use one descriptor. Raises MountError, and IntegrityError for an image
    that differs from the manifest.
    """
    name = str(plan.image)
    with plan.bundle.open(name) as image:
        identity = image_identity(image)
        if identity is None or identity != verified:
            plan.bundle.check(name, image)
        path = plan.bundle.path(name)
        request.log(f"Mounting {path}", 1)
        mount_image(path, image.fileno(), home)
    return identity


def unpack_image(home: str, plan: "Plan", request: "Request", cache: str) -> None:
    """Unpack the image to *home*/FOLDER; raise IntegrityError if it differs from the manifest."""
    image, folder = plan.bundle.path(str(plan.image)), os.path.join(home, FOLDER)
    request.log(f"Unpacking the environment of {request.name} once for this node ...")
    copy = os.path.join(home, "image.squashfs")
    plan.bundle.copy(str(plan.image), copy)  # the share is read once, and what was checked is used
    program = find_program("unsquashfs")
    if program is None or not _unpack_with(program, copy, folder, request, cache):
        from ...squashfs import unpack  # seldom needed

        try:
            unpack(copy, folder)
        except IntegrityError as error:
            message = f"{image} is {error.message}"
            raise IntegrityError(message, hint=DAMAGED_HINT) from None
    os.unlink(copy)


def _unpack_with(program: str, image: str, folder: str, request: "Request", cache: str) -> bool:
    """Run unsquashfs; return whether it unpacked everything."""
    command = [program, *_UNPACK_OPTIONS, folder, image]
    request.log("+ " + " ".join(command), 1)
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=tool_variables(),
        check=False,
    )
    if not result.returncode and os.path.isdir(folder):
        return True
    output = result.stdout.decode(errors="replace").strip()
    if "No space left on device" in output or "quota exceeded" in output.lower():
        raise no_space(cache)
    request.log(f"unsquashfs failed, unpacking without it: {output.rpartition(chr(10))[2]}")
    shutil.rmtree(folder, ignore_errors=True)
    return False
