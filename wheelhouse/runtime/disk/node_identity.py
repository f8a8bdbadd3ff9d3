"""Operating system, machine and C library of this node, and the start of its kernel.

The launcher's warm start includes this module, so it imports nothing but `os` and `sys`.
"""

import os
import sys

MACHINE_NAMES = {"amd64": "x86_64", "arm64": "aarch64"}


def node_identity() -> "tuple[str, str, str]":
    """Return ("Linux", "x86_64", "glibc 2.36"); the C library is "" where it is not glibc."""
    if sys.platform == "win32":
        machine = os.environ.get("PROCESSOR_ARCHITECTURE", "").lower()
        return "Windows", MACHINE_NAMES.get(machine, "x86_64"), ""
    system = os.uname()
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        libc = ""
    machine = system.machine.lower()
    return system.sysname, MACHINE_NAMES.get(machine, machine), libc


def boot_id() -> str:
    """Return an identifier of this start of the kernel (random(4)), or "" where it has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().decode().strip()
    except OSError:
        return ""
