"""Unmount the image of an environment when no job uses it; run as a program, with -I -S.

    python -I -S mount_keeper.py HOME SECONDS

Jobs share the lock HOME.lock. This program waits until it is free, and free again after SECONDS:
the next job of a series finds the image mounted. While it unmounts, it holds the lock.
"""

import fcntl
import os
import subprocess
import sys
import time

_COMMANDS = (["fusermount3", "-u"], ["fusermount", "-u"], ["umount"])


def main(home: str, seconds: float) -> None:
    """Unmount HOME/image at the right time."""
    descriptor = os.open(home + ".lock", os.O_RDWR)
    while True:
        time.sleep(seconds)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits for the jobs
        else:
            if _unmount(os.path.join(home, "image")):
                return
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _unmount(folder: str) -> bool:
    """Return whether the image is unmounted; a process without the lock may still use it."""
    for command in _COMMANDS:
        try:
            done = subprocess.run([*command, folder], capture_output=True, check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return True
    return not os.path.ismount(folder)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
