"""Start the site's own launcher, which the policy names, instead of the launcher of a bundle.

A forged bundle has a forged launcher. So where a policy is in force, Slurm jobs start this program,
which is written next to them from the installed offline-bundle.
"""

import os
import sys

from ..bundle.policy import site_launcher
from ..errors import SignatureError, print_error
from .old_python import restart_with_newer_python


def main() -> int:
    """Replace this process by the site's launcher, with the same arguments; return on an error."""
    if sys.version_info < (3, 9):  # noqa: UP036 - the site may have an older one first on PATH
        restart_with_newer_python()
    try:
        launcher = site_launcher()
    except SignatureError as error:
        return print_error(error)
    if launcher is None:
        sys.exit("error: the site's policy was removed while this job started")
    command = [sys.executable, "-I", "-S", launcher, *sys.argv[1:]]
    return os.execv(sys.executable, command)  # noqa: S606 - it never returns
