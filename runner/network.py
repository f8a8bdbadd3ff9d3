"""Run commands in an empty network namespace, in which only loopback is up.

    >>> no_network_command(["python", "eval.py"])
    ['…/python', '-I', '…/no_network.py', '--', 'python', 'eval.py']

There are two mechanisms, and each is tried before it is used. The first is the unshare(2) system
call, made by `standalone/no_network.py`, which then execs the command: process id, user, signals
and exit code are those of the command. The second is bubblewrap, for machines where only that
program may create namespaces (set-uid, or named in an AppArmor profile). `unshare -rn` of
util-linux is not used: it maps the user to root and leaves loopback down, on which Python's
multiprocessing and many solvers rely.

Unix sockets remain reachable.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from offline_bundle.wheelhouse.runtime.errors import BundleError
from offline_bundle.wheelhouse.runtime.processes import find_program, run_captured

HELPER = Path(__file__).with_name("standalone") / "no_network.py"

_TRIAL_SECONDS = 30

_HINT = (
    "run without --no-network, or ask an administrator for one of: user namespaces for every user "
    "(sysctl user.max_user_namespaces above 0 and, where they exist, "
    "kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0), "
    "or bubblewrap (`bwrap`)"
)


def no_network_command(command: Sequence[str]) -> list[str]:
    """Wrap *command* so that it runs without a network.

    Raises `BundleError` if no mechanism works on this machine.
    """
    return [*_working_mechanism(), "--", *command]


@functools.cache
def _working_mechanism() -> tuple[str, ...]:
    """Return the start of a command line that works here, by trying each mechanism."""
    helper = (sys.executable, "-I", str(HELPER))
    bubblewrap = find_program("bwrap")
    mechanisms: dict[str, tuple[str, ...]] = {"unshare(2)": helper}
    if bubblewrap:
        mechanisms[f"bubblewrap ({bubblewrap})"] = (*helper, "--bubblewrap", bubblewrap)
    problems = []
    for name, mechanism in mechanisms.items():
        fault = _find_fault(mechanism)
        if fault is None:
            return mechanism
        problems.append(f"{name}: {fault}")
    if not bubblewrap:
        problems.append("bubblewrap: `bwrap` is not on PATH")
    raise BundleError("--no-network is not possible on this machine", hint=_HINT, problems=problems)


def _find_fault(mechanism: Sequence[str]) -> str | None:
    """Run *mechanism* without a command; return why that failed, or None."""
    try:
        trial = run_captured(mechanism, seconds=_TRIAL_SECONDS)
    except OSError as error:
        return str(error.strerror)
    except subprocess.TimeoutExpired:
        return f"no answer within {_TRIAL_SECONDS} seconds"
    if trial.returncode == 0:
        return None
    output = trial.stderr.removeprefix("error: ")
    lines = [line for line in output.split("\n") if line]
    return "; ".join(lines) or f"exit code {trial.returncode}"
