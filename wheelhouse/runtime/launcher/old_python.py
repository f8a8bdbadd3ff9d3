"""Start again under a newer Python. Runs on Python 3.6 too."""

import os
import sys


def restart_with_newer_python() -> None:
    """Start again under a Python on PATH that is new enough, or exit. This runs on Python 3.6 as well."""
    import subprocess

    question = "import sys; sys.exit(sys.version_info < (3, 9))"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        for minor in range(15, 8, -1):
            python = os.path.join(folder, f"python3.{minor}")
            if not os.access(python, os.X_OK):
                continue
            try:  # a pyenv shim is there for every version and fails for most
                failed = subprocess.call([python, "-c", question], stderr=subprocess.DEVNULL)
            except OSError:
                continue
            if not failed:
                os.execv(python, [python] + sys.argv)  # noqa: RUF005, S606
    version = sys.version.split()[0]
    sys.exit(
        f"error: run.py needs Python 3.9 or newer; this is {version}, and PATH has no newer one"
    )
