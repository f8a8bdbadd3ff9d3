#!/usr/bin/env python3
"""A `uv` shim that supports only `uv run [OPTIONS] SCRIPT [ARGUMENTS]`, with options of scripts.

It is found as `uv` by jobs and by HPS's public execution script, and starts SCRIPT in its ready
environment, as run.py does, with one difference: HPS's public execution script removes the
environment that the script ran in. So each start gets a folder of its own in TMPDIR, with links
into the environment. It is locked while the script runs; later starts remove unlocked ones.
"""

import os
import sys
import time

_PREFIX = "uv-run-"
_NEW_SECONDS = 60.0
# Options that scripts' first lines have, and that hold for every start from a bundle anyway.
_IMPLIED = (
    *("-s", "--script", "-q", "--quiet", "--offline", "--no-project", "--no-config"),
    *("--frozen", "--locked", "--isolated", "--exact", "--no-progress", "--no-python-downloads"),
    *("-n", "--no-cache", "-v", "--verbose", "--no-sync", "--no-env-file", "--no-index"),
)


def main() -> int:
    """Start the script; return the exit code if it cannot be started."""
    words = _launcher_arguments(sys.argv[1:])
    if not words:
        print("error: this uv is a shim of an offline bundle, with fewer options", file=sys.stderr)
        print("hint: use it as `uv run [--script] SCRIPT [ARGUMENTS]`", file=sys.stderr)
        return 2
    sys.dont_write_bytecode = True  # nothing is written into the bundle
    bundle = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    sys.path.insert(0, bundle)
    from runtime.launcher import warm_start  # type: ignore[import-not-found]
    from runtime.launcher.entry import main as launch  # type: ignore[import-not-found]

    warm_start.relocate_environment = link_environment
    sys.argv = [os.path.join(bundle, "run.py"), *words]
    return launch(bundle)  # type: ignore[no-any-return]


def _launcher_arguments(words: "list[str]") -> "list[str]":
    """Return the arguments of run.py for those of uv; none if they are not supported."""
    words = _without_implied(words)
    if words[:1] != ["run"]:
        return []
    words, python = _without_implied(words[1:]), []
    option, equals, value = "".join(words[:1]).partition("=")
    if option in ("-p", "--python"):
        python = ["--python", value if equals else "".join(words[1:2])]
        words = _without_implied(words[1 if equals else 2 :])
    if words[:1] == ["--"]:
        words = words[1:]
    return python + words if words and not words[0].startswith("-") else []


def _without_implied(words: "list[str]") -> "list[str]":
    while words and words[0] in _IMPLIED:
        words = words[1:]
    return words


def link_environment(home: str) -> str:
    """Return a new folder with links into the environment at *home*, or *home* if that fails."""
    parent = os.path.abspath(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - the folder in it is private, and new
    folder = os.path.join(parent, _PREFIX + os.urandom(8).hex())
    try:
        _remove_unlocked(parent)
        os.mkdir(folder, 0o700)
        os.set_inheritable(_lock(folder), True)  # noqa: FBT003 - it takes no keywords
        os.mkdir(os.path.join(folder, "env"), 0o700)
        for name in os.listdir(os.path.join(home, "env")):
            os.symlink(os.path.join(home, "env", name), os.path.join(folder, "env", name))
    except OSError:
        return home
    return folder


def _remove_unlocked(parent: str) -> None:
    """Remove the folders of scripts that have ended. New ones may not be locked yet."""
    for name in os.listdir(parent):
        folder = os.path.join(parent, name)
        try:
            if name.startswith(_PREFIX) and time.time() - os.lstat(folder).st_mtime > _NEW_SECONDS:
                import shutil  # slow, and seldom needed

                descriptor = _lock(folder)
                shutil.rmtree(folder)
                os.close(descriptor)
        except OSError:  # in use, another user's, or another start was quicker
            continue


def _lock(folder: str) -> int:
    """Lock a folder; return the descriptor. Raises OSError if another process has locked it."""
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
