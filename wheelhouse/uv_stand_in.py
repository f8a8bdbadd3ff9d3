#!/usr/bin/env python3
"""Stands where a job, or HPS's public execution script, looks for uv: `uv run SCRIPT [ARGUMENTS]`, and nothing else.

It starts SCRIPT in its ready environment, as run.py beside it does, with one difference. uv makes an environment for
each place of a script, and HPS's public execution script removes the one that its script says it ran in. Ours is for
all jobs of a node: so each start gets a folder of its own, in TMPDIR, with links into it.
"""

import os
import sys


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
    import run  # type: ignore[import-not-found]

    start = run.start
    run.start = lambda home, *rest: start(_apart(home), *rest)
    sys.argv = [os.path.join(bundle, "run.py")] + words[1:]  # noqa: RUF005 - Python 3.6 gets as far as here
    return run.main()  # type: ignore[no-any-return]


def _apart(home: str) -> str:
    """A folder that looks like the environment at *home*; that one itself where no other can be made."""
    parent = os.path.abspath(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - the folder in it is private, and new
    place = os.path.join(parent, "uv-run-" + os.urandom(8).hex())
    try:
        os.mkdir(place, 0o700)
        os.mkdir(os.path.join(place, "env"), 0o700)
        for name in os.listdir(os.path.join(home, "env")):
            os.symlink(os.path.join(home, "env", name), os.path.join(place, "env", name))
    except OSError:
        return home
    return place


if __name__ == "__main__":
    sys.exit(main())
