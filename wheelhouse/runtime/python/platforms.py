"""uv's platform names, and which of them fit this node. The one home of these names.

parse_platform("x86_64-manylinux_2_28")    # Platform("Linux", "x86_64", "glibc", (2, 28))
Node().misfit("x86_64-manylinux_2_28")     # None, or "needs glibc 2.28 or newer"
"""

import glob
import re
import subprocess
from typing import NamedTuple

from ..disk.node_identity import node_identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional

# The glibc minors that uv has a platform name for.
GLIBC_MINORS = (17, 28, *range(31, 41))
# What uv 0.13 assumes where a platform name has no version.
MUSL_VERSION = (1, 2)
MACOS_VERSION = (13, 0)
_SHORT_NAMES = {
    "linux": "x86_64-manylinux_2_28",
    "macos": "aarch64-apple-darwin",
    "windows": "x86_64-pc-windows-msvc",
}
_SHORT_KINDS = {"unknown-linux-gnu": "manylinux_2_28", "manylinux2014": "manylinux_2_17"}


class Platform(NamedTuple):
    """The meaning of a platform name. An unknown name fits no node."""

    system: str
    machine: str
    libc_family: str
    """`glibc`, `musl`, or empty."""
    libc_version: "tuple[int, ...]"
    """The lowest version that fits."""


def full_platform_name(name: str) -> str:
    """Return the long form of a name: `linux` is `x86_64-manylinux_2_28`."""
    machine, _, kind = _SHORT_NAMES.get(name, name).partition("-")
    return f"{machine}-{_SHORT_KINDS.get(kind, kind)}" if kind else machine


def platform_names() -> "tuple[str, ...]":
    """Return the names that uv has for platforms, without the short ones."""
    linux = [f"manylinux_2_{minor}" for minor in GLIBC_MINORS]
    kinds = [*linux, "unknown-linux-musl", "apple-darwin", "pc-windows-msvc"]
    names = [f"{machine}-{kind}" for machine in ("x86_64", "aarch64") for kind in kinds]
    return (*names, "i686-pc-windows-msvc")


def highest_floor(glibc_minor: int) -> "Optional[int]":
    """Return the highest manylinux floor that glibc 2.*glibc_minor* meets; None below 2.17."""
    return max((minor for minor in GLIBC_MINORS if minor <= glibc_minor), default=None)


def parse_platform(name: str) -> Platform:
    """Parse a platform name of uv, short or long."""
    machine, _, kind = full_platform_name(name).partition("-")
    family, _, version = kind.partition("_")
    floor = version_numbers(version.replace("_", "."))
    known = {
        "manylinux": Platform("Linux", machine, "glibc", floor),
        "musllinux": Platform("Linux", machine, "musl", floor),
        "unknown-linux-musl": Platform("Linux", machine, "musl", MUSL_VERSION),
        "apple-darwin": Platform("Darwin", machine, "", ()),
        "pc-windows-msvc": Platform("Windows", machine, "", ()),
    }
    return known.get(family, Platform(kind, machine, "", ()))


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
        libc = f" with {self.libc_family} {dotted_version(self.libc_version)}"
        return f"{self.system} on {self.machine}{libc if self.libc_family else ''}"

    def platform(self) -> str:
        """Return uv's name for this node, with the exact glibc version."""
        if self.libc_family == "glibc":
            return f"{self.machine}-manylinux_{dotted_version(self.libc_version).replace('.', '_')}"
        kinds = {
            "Linux": "unknown-linux-musl",
            "Darwin": "apple-darwin",
            "Windows": "pc-windows-msvc",
        }
        return f"{self.machine}-{kinds.get(self.system, self.system)}"

    def build_platform(self) -> str:
        """Return uv's name for this node, with the highest manylinux floor that its glibc meets."""
        if self.libc_family != "glibc":
            return self.platform()
        minor = self.libc_version[1] if len(self.libc_version) > 1 else 0
        return f"{self.machine}-manylinux_2_{highest_floor(minor) or GLIBC_MINORS[0]}"

    def misfit(
        self, platform: str, libc_floor: "Optional[tuple[int, ...]]" = None
    ) -> "Optional[str]":
        """Return why things built for *platform* do not run here, or None.

        *libc_floor*, the version that they really need, replaces that of the platform's name.
        """
        parsed = parse_platform(platform)
        if (parsed.system, parsed.machine) != (self.system, self.machine):
            return f"made for {parsed.system} on {parsed.machine}"
        if parsed.libc_family != self.libc_family:
            return f"made for {parsed.libc_family}"
        needed = parsed.libc_version if libc_floor is None else libc_floor
        if needed > self.libc_version:
            return f"needs {parsed.libc_family} {dotted_version(needed)} or newer"
        return None


def _musl_version() -> str:
    """Return the version that musl's loader prints on stderr when started without arguments."""
    for loader in glob.glob("/lib/ld-musl-*.so.1"):
        result = subprocess.run([loader], stderr=subprocess.PIPE, check=False)
        match = re.search(rb"Version (\d+(?:\.\d+)*)", result.stderr)
        if match:
            return match[1].decode()
    return ""


def version_numbers(version: str) -> "tuple[int, ...]":
    """Return "3.12.1" as (3, 12, 1); parts that are not numbers are left out."""
    return tuple(int(part) for part in version.split(".") if re.fullmatch("[0-9]{1,18}", part))


def dotted_version(version: "Sequence[int]") -> str:
    """Return (3, 12, 1) as "3.12.1"."""
    return ".".join(str(part) for part in version)
