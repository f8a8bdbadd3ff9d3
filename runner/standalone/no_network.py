"""Start a command in an empty network namespace. One file, standard library only, Python 3.9.

    python -I no_network.py -- COMMAND…                        unshare(2), then exec: same process
    python -I no_network.py --bubblewrap BWRAP -- COMMAND…     below bubblewrap, which stays
    python -I no_network.py --inside -- COMMAND…               started by bubblewrap: check, exec

Without a command it creates the namespace, checks it and exits with 0: `runner/network.py` tries
mechanisms that way. A command is never started with a network: on any failure the reason is
printed on stderr, and the exit code is 1.
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

_FORWARDED = {
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH),
}


class NetworkError(Exception):
    """The network is still reachable, or loopback is not."""


def main(arguments: list[str]) -> int:
    """Leave the network, then exec the command. Returns only without one, or with bubblewrap."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options, command = arguments[:split], arguments[split + 1 :]
    try:
        if options[:1] == ["--bubblewrap"]:
            return run_in_bubblewrap(options[1], command)
        if options != ["--inside"]:
            enter_empty_network()
        check_no_network()
    except (OSError, NetworkError) as error:
        print(f"error: {getattr(error, 'strerror', None) or error}", file=sys.stderr)  # noqa: T201
        return 1
    return execute(command) if command else 0


def enter_empty_network() -> None:
    """Move this process into a new network namespace and set its loopback up.

    A privileged process leaves its network only. Any other process also enters a user namespace,
    in which it keeps its user and group id (so that files belong to the user) and, after exec,
    no capability.
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
            raise NetworkError(f"writing {error.filename}: {error.strerror}") from error
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            set_flags(control, "lo", flags_of(control, "lo") | IFF_UP)
        except OSError as error:
            raise NetworkError(f"setting loopback up: {error.strerror}") from error


def unshare(flags: int) -> None:
    """Leave the namespaces in *flags*. Python has `os.unshare` from 3.12 on only."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(ctypes.c_int(flags)) != 0:
        code = ctypes.get_errno()
        kind = "user and network namespace" if flags & CLONE_NEWUSER else "network namespace"
        raise OSError(code, f"unshare(2) of a {kind}: {os.strerror(code)}")


def check_no_network() -> None:
    """Raise unless loopback is up and no other interface is. Nothing is sent or connected."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        names = [name for _, name in socket.if_nameindex()]
        up = {name: flags for name in names if (flags := flags_of(control, name)) & IFF_UP}
    outside = sorted(name for name, flags in up.items() if not flags & IFF_LOOPBACK)
    if outside:
        raise NetworkError(f"still connected through {', '.join(outside)}")
    if not up:
        raise NetworkError("loopback is down")


def flags_of(control: socket.socket, interface: str) -> int:
    """Return the flags of an interface."""
    request = struct.pack("16sh22x", interface.encode(), 0)
    return int(struct.unpack_from("16sH", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1])


def set_flags(control: socket.socket, interface: str, flags: int) -> None:
    """Set the flags of an interface."""
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", interface.encode(), flags))


def execute(command: list[str]) -> int:
    """Replace this process by *command*, with default signal handling."""
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED | {signal.SIGCHLD})
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 127 if error.errno == errno.ENOENT else 126


def run_in_bubblewrap(bubblewrap: str, command: list[str]) -> int:
    """Run *command* below bubblewrap, with the signals and the exit code of the command.

    bubblewrap stays as the parent of the command, would die of a signal meant for the command, and
    reports a death by signal N as exit code 128 + N. So signals are blocked for bubblewrap and
    forwarded to the command. Signals from the kernel, such as a terminal's interrupt, reach the
    command through its process group.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED | {signal.SIGCHLD})
    reading, writing = os.pipe()
    sandbox = ["--dev-bind", "/", "/", "--unshare-net", "--die-with-parent"]
    information_option = ["--info-fd", str(writing)]
    inside = [sys.executable, "-I", __file__, "--inside", "--", *command]
    with subprocess.Popen(
        [bubblewrap, *sandbox, *information_option, "--", *inside], pass_fds=[writing]
    ) as process:
        os.close(writing)
        with os.fdopen(reading) as stream:
            information = stream.read()
        if information:
            forward_signals(process, json.loads(information)["child-pid"])
    return process.returncode


def forward_signals(process: subprocess.Popen[bytes], command: int) -> None:
    """Forward signals for this process to process id *command*, until bubblewrap has ended."""
    while process.poll() is None:
        received = signal.sigwaitinfo(_FORWARDED | {signal.SIGCHLD})
        sent_by_kernel = received.si_code > 0
        if received.si_signo != signal.SIGCHLD and not sent_by_kernel:
            os.kill(command, received.si_signo)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
