"""This node and uv's platform names: system, machine, C library."""

import re

from .launcher.warm_start import node_identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional


class Node:
    """This machine: operating system, machine, and C library as a family and a version."""

    def __init__(self) -> None:
        self.system, self.machine, libc = node_identity()
        family, _, version = libc.partition(" ")
        if not libc and self.system == "Linux":
            family, version = "musl", _musl_version()
        self.libc_family = family
        self.libc_version = version_numbers(version)

    def __str__(self) -> str:
        """Say what it is, for messages."""
        libc = (
            f" with {self.libc_family} {dotted_version(self.libc_version)}"
            if self.libc_family
            else ""
        )
        return f"{self.system} on {self.machine}{libc}"

    def platform(self) -> str:
        """Name this node in uv's words."""
        if self.libc_family == "glibc":
            return f"{self.machine}-manylinux_{dotted_version(self.libc_version).replace('.', '_')}"
        names = {
            "Linux": "unknown-linux-musl",
            "Darwin": "apple-darwin",
            "Windows": "pc-windows-msvc",
        }
        return f"{self.machine}-{names.get(self.system, self.system)}"

    def misfit(self, platform: str, floor: "Optional[tuple[int, ...]]" = None) -> "Optional[str]":
        """Say why things made for *platform* do not run here, or None.

        *floor*, the libc version that they really need, replaces the one in the platform's name.
        """
        system, machine, family, named_floor = parse_platform(platform)
        if (system, machine) != (self.system, self.machine):
            return f"made for {system} on {machine}"
        if family != self.libc_family:
            return f"made for {family}"
        needed = named_floor if floor is None else floor
        if needed > self.libc_version:
            return f"needs {family} {dotted_version(needed)} or newer"
        return None


def parse_platform(platform: str) -> "tuple[str, str, str, tuple[int, ...]]":
    """Split uv's name of a platform into system, machine, libc family and libc version.

    `x86_64-manylinux_2_28` → ("Linux", "x86_64", "glibc", (2, 28)). A name this does not know fits no node.
    """
    platform = {
        "linux": "x86_64-unknown-linux-gnu",
        "macos": "aarch64-apple-darwin",
        "windows": "x86_64-pc-windows-msvc",
    }.get(platform, platform)
    machine, _, rest = platform.partition("-")
    kind, _, version = rest.partition("_")
    known = {
        "manylinux": ("Linux", "glibc", version_numbers(version.replace("_", "."))),
        "musllinux": ("Linux", "musl", version_numbers(version.replace("_", "."))),
        "manylinux2014": ("Linux", "glibc", (2, 17)),
        "unknown-linux-gnu": ("Linux", "glibc", (2, 28)),
        "unknown-linux-musl": ("Linux", "musl", (1, 1)),
        "apple-darwin": ("Darwin", "", ()),
        "pc-windows-msvc": ("Windows", "", ()),
    }
    system, family, floor = known.get(kind, (rest, "", ()))
    return system, machine, family, floor


def _musl_version() -> str:
    """Ask musl's loader, which prints its version on stderr when it is started without arguments."""
    import glob
    import subprocess

    for loader in glob.glob("/lib/ld-musl-*.so.1"):
        done = subprocess.run([loader], stderr=subprocess.PIPE, check=False)
        match = re.search(rb"Version (\d+(?:\.\d+)*)", done.stderr)
        if match:
            return match[1].decode()
    return ""


def version_numbers(version: str) -> "tuple[int, ...]":
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def dotted_version(version: "Sequence[int]") -> str:
    return ".".join(str(part) for part in version)
