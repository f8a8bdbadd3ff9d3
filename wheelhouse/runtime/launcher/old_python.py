"""Start again under a newer Python. Runs on Python 3.6 too."""

import os
import signal
import subprocess
import sys


def restart_with_newer_python() -> None:
    """Replace this process by run.py under a Python 3.9 or newer from PATH, or exit with code 1."""
    question = "import sys; sys.exit(sys.version_info < (3, 9))"
    # An ignored SIGCHLD, which a parent may leave, would make each exit code 0.
    is_posix = sys.platform != "win32"
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if is_posix else None
    for folder in filter(os.path.isabs, os.environ.get("PATH", "").split(os.pathsep)):
        for minor in range(15, 8, -1):
            python = os.path.join(folder, f"python3.{minor}")
            if not os.access(python, os.X_OK):
                continue
            try:  # a pyenv shim exists for every version and fails for most
                failed = subprocess.call([python, "-c", question], stderr=subprocess.DEVNULL)
            except OSError:
                continue
            if not failed:
                if is_posix:
                    signal.signal(signal.SIGCHLD, handler)
                os.execv(python, [python] + sys.argv)  # noqa: RUF005, S606
    version = sys.version.split()[0]
    sys.exit(
        f"error: run.py needs Python 3.9 or newer; this is {version}, and PATH has no newer one"
    )
