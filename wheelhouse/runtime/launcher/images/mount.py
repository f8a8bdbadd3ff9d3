"""Mount an image with squashfuse, once for all jobs of this user on this node.

The mount belongs to the environment in whose folder it is: jobs hold the environment's lock, and
`mount_keeper.py` unmounts the image when no job has held it for some seconds.
"""

import os
import shutil
import subprocess
import sys

from ...bundle.policy import may_be_in_force
from ...errors import BundleError
from ...processes import find_program
from ..warm_start import answers_in_time, mounted_path

FOLDER = "image"
"""Folder in an environment's home: the mount point, or the unpacked image."""
_PROGRAMS = ("squashfuse_ll", "squashfuse")
_DEVICE = "/dev/fuse"
_MOUNTS = "/proc/self/mountinfo"
_SECONDS = 10
"""How long a program may take to mount or unmount."""
_IDLE_SECONDS = 5
_KEEPER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mount_keeper.py")
# At its end, a scheduler stops all processes of a job, also one that other jobs' mount needs.
_JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")


class MountError(BundleError):
    """An image cannot be mounted here. It is unpacked instead."""


def mount_obstacle() -> "str | None":
    """Return why no image should be mounted here, or None."""
    if not os.path.exists(_DEVICE) or not os.path.exists(_MOUNTS):
        return "this node has no FUSE"
    if not any(map(find_program, _PROGRAMS)):
        return "squashfuse is not on PATH"
    if may_be_in_force():
        return "the site's policy requires a checked copy"
    for name in _JOB_VARIABLES:
        if os.environ.get(name):
            return f"{name} is set: the scheduler would stop squashfuse while others use the mount"
    return None


def mount_image(image: str, descriptor: int, home: str) -> None:
    """Mount *image*, open as *descriptor*, in the folder *home* of an environment.

    It is unmounted when no job holds the environment's lock. Raises MountError.
    """
    folder = os.path.join(home, FOLDER)
    program = next(filter(None, map(find_program, _PROGRAMS)))
    os.mkdir(folder, 0o700)
    name = os.path.basename(program)
    path = f"/proc/self/fd/{descriptor}"  # *image* may name another file by now
    log = os.path.join(home, "mount.log")
    output = _run([program, path, folder], log, descriptor)
    if output is None:
        raise MountError(f"{name} did not mount {image} within {_SECONDS} s")
    os.symlink(os.path.join(FOLDER, "pyvenv.cfg"), mounted_path(home))
    if not is_mounted(home):
        raise MountError(f"{name} cannot mount {image}: {output or 'no output'}")
    if not answers_in_time(mounted_path(home)):
        raise MountError(f"{name} does not answer for {image}")
    subprocess.Popen(
        [sys.executable, "-I", "-S", _KEEPER, home, str(_IDLE_SECONDS)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )


def is_mounted(home: str) -> bool:
    """Return whether the image of the environment at *home* is mounted, also if it is stale."""
    # The path of the parent: to resolve the mount point itself may hang.
    point = os.path.join(os.path.realpath(home), FOLDER)
    try:
        with open(_MOUNTS, "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return False
    escaped = os.fsencode(point).replace(b"\\", b"\\134")
    for character in b" \t\n":
        escaped = escaped.replace(bytes([character]), b"\\%03o" % character)
    return any(line.split(b" ")[4] == escaped for line in lines)


def unmount(home: str) -> None:
    """Unmount the image at *home*, if it is mounted, even if a process uses it or it is stale.

    Raises MountError.
    """
    folder = os.path.join(home, FOLDER)
    for command in (["fusermount3", "-uz"], ["fusermount", "-uz"], ["umount", "-l"]):
        if not is_mounted(home):
            return
        program = find_program(command[0])
        if program:
            _run([program, *command[1:], folder], os.devnull)
    if is_mounted(home):
        raise MountError(f"{folder} cannot be unmounted")


def remove_environment(home: str) -> None:
    """Remove the folder *home*, whose lock is held, with the mount in it. Raises MountError."""
    unmount(home)
    shutil.rmtree(home, ignore_errors=True)


def _run(command: "list[str]", log: str, *descriptors: int) -> "str | None":
    """Run *command*; return its output, or None if it takes too long, and is left alone then.

    It inherits the *descriptors*.
    """
    # Output into a file: squashfuse goes on in the background, and would keep a pipe open.
    with open(log, "w+b") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            pass_fds=descriptors,
        )
        try:
            process.wait(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # waiting for its end could take forever
            return None
        output.seek(0)
        return output.read().decode(errors="replace").strip()
