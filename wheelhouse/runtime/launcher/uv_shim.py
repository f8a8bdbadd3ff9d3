#!/usr/bin/env python3
"""Stands where a job, or HPS's public execution script, looks for uv: `uv run SCRIPT [ARGUMENTS]`, and nothing else.

It starts SCRIPT in its ready environment, as run.py beside it does, with one difference. uv makes an environment for
each place of a script, and HPS's public execution script removes the one that its script says it ran in. Ours is for
all jobs of a node: so each start gets a folder of its own, in TMPDIR, with links into it. It is locked as long as the
script runs; a later start removes those that are not.
"""

import os
import sys
import time

_PREFIX = "uv-run-"
_NEW_SECONDS = 60.0


def main() -> int:
    """Start the script; return the exit code where that cannot be done."""
    words = sys.argv[1:]
    if words[:1] != ["run"] or not os.path.isfile(words[1] if len(words) > 1 else ""):
        told = "this stands in for uv in an offline bundle, and knows no more than: uv run SCRIPT [ARGUMENTS]"
        print("error: " + told, file=sys.stderr)
        return 2
    sys.dont_write_bytecode = True  # nothing is written into the bundle
    bundle = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    sys.path.insert(0, bundle)
    from runtime.launcher import warm_start  # type: ignore[import-not-found]
    from runtime.launcher.entry import main as launch  # type: ignore[import-not-found]

    warm_start.relocate_environment = link_environment
    sys.argv = [os.path.join(bundle, "run.py")] + words[1:]  # noqa: RUF005 - Python 3.6 gets as far as here
    return launch(bundle)  # type: ignore[no-any-return]


def link_environment(home: str) -> str:
    """A folder that looks like the environment at *home*; that one itself where no other can be made."""
    parent = os.path.abspath(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - the folder in it is private, and new
    place = os.path.join(parent, _PREFIX + os.urandom(8).hex())
    try:
        _remove_ended(parent)
        os.mkdir(place, 0o700)
        os.set_inheritable(_lock(place), True)  # noqa: FBT003 - it takes no keywords
        os.mkdir(os.path.join(place, "env"), 0o700)
        for name in os.listdir(os.path.join(home, "env")):
            os.symlink(os.path.join(home, "env", name), os.path.join(place, "env", name))
    except OSError:
        return home
    return place


def _remove_ended(parent: str) -> None:
    """Remove the folders of starts whose scripts have ended: nobody holds them. New ones may not be held yet."""
    for name in os.listdir(parent):
        place = os.path.join(parent, name)
        try:
            if name.startswith(_PREFIX) and time.time() - os.lstat(place).st_mtime > _NEW_SECONDS:
                import shutil  # slow, and seldom needed

                descriptor = _lock(place)
                shutil.rmtree(place)
                os.close(descriptor)
        except OSError:  # in use, another user's, or another start was quicker
            continue


def _lock(folder: str) -> int:
    """Lock a folder by a descriptor. Raises OSError where somebody else has it."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


if __name__ == "__main__":
    sys.exit(main())
