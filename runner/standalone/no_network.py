"""Start a command in an empty network namespace: a program of its own, standard library only, Python >= 3.9.

    python -I seal_helper.py -- COMMAND…                        unshare(2), then exec: same process, same id
    python -I seal_helper.py --bubblewrap BWRAP -- COMMAND…     under bubblewrap, which stays as a parent
    python -I seal_helper.py --inside -- COMMAND…               what bubblewrap starts: check, then exec

Without a command it seals itself, checks, and leaves with 0: that is how `offline_bundle.runner.network` probes. It never
starts a command that is not sealed: on any failure it says why on stderr and leaves with 1.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

# linux/sched.h, linux/sockios.h, linux/if.h
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
IFF_LOOPBACK = 0x8

_PASSED_ON = {
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH),
}


class SealError(Exception):
    """The network could not be taken away."""


def main(arguments: list[str]) -> int:
    """Seal, then become the command; returns only where there is none, or bubblewrap had it."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options, command = arguments[:split], arguments[split + 1 :]
    try:
        if options[:1] == ["--bubblewrap"]:
            return run_in_bubblewrap(options[1], command)
        if options != ["--inside"]:
            enter_empty_network()
        check_sealed()
    except (OSError, SealError) as error:
        print(f"cannot seal: {getattr(error, 'strerror', None) or error}", file=sys.stderr)  # noqa: T201
        return 1
    return become(command) if command else 0


def enter_empty_network() -> None:
    """Move this process into a new network namespace that has nothing but loopback, and bring that up.

    A privileged process only leaves its network. Any other also enters a user namespace, in which it keeps
    its user and group id (so the files it makes are its own) and, once it execs, no capability.
    """
    user, group = os.geteuid(), os.getegid()
    try:
        unshare(CLONE_NEWNET)
    except PermissionError:
        unshare(CLONE_NEWUSER | CLONE_NEWNET)
        try:
            Path("/proc/self/setgroups").write_text("deny", "ascii")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1", "ascii")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1", "ascii")
        except OSError as error:
            raise SealError(f"writing {error.filename}: {error.strerror}") from error
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            set_flags(control, "lo", flags_of(control, "lo") | IFF_UP)
        except OSError as error:
            raise SealError(f"bringing up loopback: {error.strerror}") from error


def unshare(flags: int) -> None:
    """Leave the namespaces in *flags* by a system call, which Python has as `os.unshare` from 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(ctypes.c_int(flags)) != 0:
        code = ctypes.get_errno()
        what = "user and network namespace" if flags & CLONE_NEWUSER else "network namespace"
        raise OSError(code, f"unshare(2) of a {what}: {os.strerror(code)}")


def check_sealed() -> None:
    """Raise unless loopback is up and no other interface is. Nothing is sent or connected for that."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        names = [name for _, name in socket.if_nameindex()]
        up = {name: flags for name in names if (flags := flags_of(control, name)) & IFF_UP}
    outside = sorted(name for name, flags in up.items() if not flags & IFF_LOOPBACK)
    if outside:
        raise SealError(f"still connected through {', '.join(outside)}")
    if not up:
        raise SealError("loopback is down")


def flags_of(control: socket.socket, interface: str) -> int:
    """Return an interface's flags."""
    request = struct.pack("16sh22x", interface.encode(), 0)
    return int(struct.unpack_from("16sH", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1])


def set_flags(control: socket.socket, interface: str, flags: int) -> None:
    """Set an interface's flags."""
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", interface.encode(), flags))


def become(command: list[str]) -> int:
    """Replace this process by *command*, with the signals it would have had without us."""
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON | {signal.SIGCHLD})
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 127 if error.errno == errno.ENOENT else 126


def run_in_bubblewrap(bubblewrap: str, command: list[str]) -> int:
    """Run *command* under bubblewrap and be to the caller what the command would be.

    bubblewrap stays as the command's parent, would die of a signal meant for the command, and reports a
    command's death by signal N as exit code 128 + N. So signals are blocked for bubblewrap and passed on to
    the command. What the kernel sends, as a terminal's interrupt, reaches the command anyway, by its group.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON | {signal.SIGCHLD})
    reading, writing = os.pipe()
    sandbox = [
        "--dev-bind",
        "/",
        "/",
        "--unshare-net",
        "--die-with-parent",
        "--info-fd",
        str(writing),
    ]
    inside = [sys.executable, "-I", __file__, "--inside", "--", *command]
    with subprocess.Popen([bubblewrap, *sandbox, "--", *inside], pass_fds=[writing]) as process:
        os.close(writing)
        with os.fdopen(reading) as information:
            written = information.read()
        if written:
            pass_signals_on(process, json.loads(written)["child-pid"])
    return process.returncode


def pass_signals_on(process: subprocess.Popen[bytes], command: int) -> None:
    """Send every signal for this process on to process id *command*, until bubblewrap has ended."""
    while process.poll() is None:
        received = signal.sigwaitinfo(_PASSED_ON | {signal.SIGCHLD})
        sent_by_kernel = received.si_code > 0
        if received.si_signo != signal.SIGCHLD and not sent_by_kernel:
            os.kill(command, received.si_signo)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
