"""Commands without a network: a seal is an empty network namespace, in which only loopback is up.

    >>> seal_command(["python", "eval.py"])
    ['…/python', '-I', '…/seal_helper.py', '--', 'python', 'eval.py']

Two mechanisms, each tried for real before it is used. First the unshare(2) system call, made by a small
helper which then execs the command: same process id, same user, so signals and exit codes are the command's
own. Then bubblewrap, where only that may make namespaces (set-uid, or named in an AppArmor profile). The
program `unshare -rn` of util-linux is neither: it maps the user to root and leaves loopback down, on which
Python's multiprocessing and many solvers rely.

A seal takes the network away, not sockets that are files: a service that listens on one can still be reached.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.runtime.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Sequence

HELPER = Path(__file__).with_name("standalone") / "no_network.py"

_PROBE_SECONDS = 30

_HINT = (
    "run without --sealed, or ask an administrator for one of: user namespaces for everybody (sysctl "
    "user.max_user_namespaces above 0 and, where they exist, kernel.unprivileged_userns_clone=1 and "
    "kernel.apparmor_restrict_unprivileged_userns=0), or bubblewrap (`bwrap`) for users to run"
)


def seal_command(command: Sequence[str]) -> list[str]:
    """Wrap *command* so that it runs without a network; raise `BundleError` where that cannot be done."""
    return [*_working_mechanism(), "--", *command]


@functools.cache
def _working_mechanism() -> tuple[str, ...]:
    """Find the beginning of a command line that seals here, by trying."""
    helper = (sys.executable, "-I", str(HELPER))
    bubblewrap = shutil.which("bwrap")
    mechanisms: dict[str, tuple[str, ...]] = {"unshare(2)": helper}
    if bubblewrap:
        mechanisms[f"bubblewrap ({bubblewrap})"] = (*helper, "--bubblewrap", bubblewrap)
    problems = []
    for name, mechanism in mechanisms.items():
        fault = _fault_of(mechanism)
        if fault is None:
            return mechanism
        problems.append(f"{name}: {fault}")
    if not bubblewrap:
        problems.append("bubblewrap: there is no `bwrap` on PATH")
    raise BundleError(
        "no way to take the network away works on this machine", hint=_HINT, problems=problems
    )


def _fault_of(mechanism: Sequence[str]) -> str | None:
    """Seal nothing by *mechanism*; return why that failed, or None."""
    try:
        probe = subprocess.run(
            mechanism,
            capture_output=True,
            check=False,
            timeout=_PROBE_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        return str(error.strerror)
    except subprocess.TimeoutExpired:
        return f"no answer within {_PROBE_SECONDS} seconds"
    if probe.returncode == 0:
        return None
    said = probe.stderr.decode(errors="replace").removeprefix("cannot seal: ").split("\n")
    return "; ".join(line for line in said if line) or f"left with exit code {probe.returncode}"
