"""A target: one Python version on one platform, in uv's own vocabulary, with its tags and markers.

    >>> target = Target("3.12", "x86_64-manylinux_2_28")
    >>> target.name
    'cp312-x86_64-manylinux_2_28'

Everything here is computed for the target, never read from the machine that builds; only `host_platform` looks at it.
"""

from __future__ import annotations

import os
import platform as host
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from packaging import tags

from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.requirements import python_matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from packaging.markers import Environment
    from packaging.tags import Tag

# What `uv pip compile --python-platform` means by its short names (uv 0.13).
_ALIASES = {
    "linux": "x86_64-manylinux_2_28",
    "macos": "aarch64-apple-darwin",
    "windows": "x86_64-pc-windows-msvc",
    "x86_64-unknown-linux-gnu": "x86_64-manylinux_2_28",
    "aarch64-unknown-linux-gnu": "aarch64-manylinux_2_28",
    "x86_64-manylinux2014": "x86_64-manylinux_2_17",
    "aarch64-manylinux2014": "aarch64-manylinux_2_17",
}
# The glibc minors that uv has a platform name for.
_GLIBC_MINORS = (17, 28, *range(31, 41))
_PLATFORM = re.compile(
    r"(?P<arch>x86_64|aarch64|i686)-"
    r"(?:manylinux_2_(?P<glibc>\d+)|unknown-linux-(?P<musl>musl)|(?P<macos>apple-darwin)|(?P<windows>pc-windows-msvc))"
)
_PYTHON = re.compile(r"3\.(?P<minor>\d+)(?:\.(?P<micro>\d+))?(?P<threads>t)?")
# What uv 0.13 assumes where a platform name gives no version.
_MUSL_VERSION = (1, 2)
_MACOS_VERSION = (13, 0)
# Python minors that a script may be bundled for when nothing else decides; the newest fitting one is taken.
KNOWN_MINORS = ("3.14", "3.13", "3.12", "3.11", "3.10", "3.9", "3.8")

System = Literal["linux-gnu", "linux-musl", "macos", "windows"]


@dataclass(frozen=True)
class Target:
    """One (Python version, platform) pair.

    `python` is a minor such as "3.12", or "3.13t" for the free-threaded build; `platform` is one of uv's long names.
    """

    python: str
    platform: str

    @property
    def name(self) -> str:
        """The target's key in a bundle: `cp312-x86_64-manylinux_2_28`. PEP 751 file names forbid dots."""
        return f"cp{self.python.replace('.', '')}-{self.platform}"

    @property
    def is_free_threaded(self) -> bool:
        """Whether the target is a build without the GIL (PEP 703), which has an ABI of its own."""
        return self.python.endswith("t")

    @property
    def version(self) -> tuple[int, int]:
        """The Python version as numbers, (3, 12)."""
        major, minor = self.python.rstrip("t").split(".")
        return int(major), int(minor)

    @property
    def architecture(self) -> str:
        """The processor as uv names it: `x86_64`, `aarch64`, `i686`."""
        return self.platform.partition("-")[0]

    @property
    def glibc(self) -> tuple[int, int] | None:
        """The glibc floor, (2, 28), or None where the platform has no glibc."""
        minor = self._match["glibc"]
        return (2, int(minor)) if minor else None

    @property
    def system(self) -> System:
        """The family of operating system and libc."""
        if self._match["glibc"]:
            return "linux-gnu"
        if self._match["musl"]:
            return "linux-musl"
        return "macos" if self._match["macos"] else "windows"

    @property
    def runs_here(self) -> bool:
        """Whether wheels built on this machine may serve the target: same system and processor, no older libc."""
        here = Target(self.python, host_platform())
        if (here.system, here.architecture) != (self.system, self.architecture):
            return False
        return self.glibc is None or here.glibc is None or self.glibc >= here.glibc

    @cached_property
    def _match(self) -> re.Match[str]:
        match = _PLATFORM.fullmatch(self.platform)
        if match is None:
            raise InputError(
                f"{self.platform}: not a platform that bundles are built for",
                hint="use one of uv's names: x86_64-manylinux_2_28, aarch64-manylinux_2_17, x86_64-unknown-linux-musl, "
                "aarch64-apple-darwin, x86_64-pc-windows-msvc",
            )
        return match

    def environment(self, full_version: str) -> Environment:
        """The marker environment (PEP 508) of the target, for *full_version* such as "3.12.0"; as uv sets it."""
        names = {
            "linux-gnu": ("posix", "Linux", "linux"),
            "linux-musl": ("posix", "Linux", "linux"),
            "macos": ("posix", "Darwin", "darwin"),
            "windows": ("nt", "Windows", "win32"),
        }
        os_name, platform_system, sys_platform = names[self.system]
        return {
            "implementation_name": "cpython",
            "implementation_version": full_version,
            "os_name": os_name,
            "platform_machine": self._machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": platform_system,
            "platform_version": "",
            "python_full_version": full_version,
            "python_version": self.python.rstrip("t"),
            "sys_platform": sys_platform,
        }

    @property
    def _machine(self) -> str:
        if self.system == "macos":
            return "arm64" if self.architecture == "aarch64" else "x86_64"
        if self.system == "windows":
            return {"x86_64": "AMD64", "aarch64": "ARM64", "i686": "x86"}[self.architecture]
        return self.architecture

    @cached_property
    def tags(self) -> tuple[Tag, ...]:
        """The wheel tags the target takes, best first (PEP 425, 600, 656)."""
        platforms = list(self._platforms())
        abi = f"cp{self.version[0]}{self.version[1]}"
        interpreter = tags.cpython_tags(
            self.version, abis=[f"{abi}t" if self.is_free_threaded else abi], platforms=platforms
        )
        return (
            *interpreter,
            *tags.compatible_tags(self.version, interpreter=abi, platforms=platforms),
        )

    @cached_property
    def tag_set(self) -> frozenset[Tag]:
        """The same without their order."""
        return frozenset(self.tags)

    def _platforms(self) -> Iterator[str]:
        if self.glibc:
            yield from _manylinux(self.architecture, self.glibc[1])
            yield f"linux_{self.architecture}"
        elif self.system == "linux-musl":
            for minor in range(_MUSL_VERSION[1], -1, -1):
                yield f"musllinux_{_MUSL_VERSION[0]}_{minor}_{self.architecture}"
            yield f"linux_{self.architecture}"
        elif self.system == "macos":
            yield from tags.mac_platforms(_MACOS_VERSION, self._machine)
        else:
            yield {"x86_64": "win_amd64", "aarch64": "win_arm64", "i686": "win32"}[
                self.architecture
            ]

    def full_version(self, requires_python: str | None) -> str:
        """The lowest patch release that *requires_python* admits: what the target is resolved for.

        `==3.12` means 3.12.0 to PEP 440; sites write it meaning 3.12.*, and uv runs it so.

        Raises InputError (exit 2) when no release of the minor is admitted.
        """
        minor = self.python.rstrip("t")
        if requires_python is None:
            return f"{minor}.0"
        for micro in range(100):
            if python_matches(requires_python, (*self.version, micro)):
                return f"{minor}.{micro}"
        raise InputError(
            f'Python {self.python} is not admitted by the script\'s requires-python = "{requires_python}"',
            hint="leave out --python-version, or change it",
        )


def platform_names() -> tuple[str, ...]:
    """The platforms that uv has a name for, without its short names."""
    linux = [f"manylinux_2_{minor}" for minor in _GLIBC_MINORS]
    return tuple(
        f"{machine}-{system}"
        for machine, systems in {
            "x86_64": [*linux, "unknown-linux-musl", "apple-darwin", "pc-windows-msvc"],
            "aarch64": [*linux, "unknown-linux-musl", "apple-darwin", "pc-windows-msvc"],
            "i686": ["pc-windows-msvc"],
        }.items()
        for system in systems
    )


def make_target(python: str, platform: str) -> Target:
    """A Target from what a user typed: aliases resolved, unknown names refused with InputError (exit 2)."""
    match = _PYTHON.fullmatch(python)
    if match is None:
        raise InputError(f"{python}: not a Python version", hint="write it as 3.12")
    target = Target(f"3.{match['minor']}{match['threads'] or ''}", _ALIASES.get(platform, platform))
    if target.glibc and target.glibc[1] not in _GLIBC_MINORS:
        known = ", ".join(f"2_{minor}" for minor in _GLIBC_MINORS)
        raise InputError(
            f"{platform}: uv has no such platform",
            hint=f"the manylinux floors it knows are {known}; take the next lower",
        )
    return target


def host_platform() -> str:
    """This machine in uv's words: the highest manylinux floor that its glibc meets, or musl, macOS or Windows."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        host.machine().lower(), host.machine().lower()
    )
    if sys.platform == "darwin":
        return f"{machine}-apple-darwin"
    if sys.platform == "win32":
        return f"{machine}-pc-windows-msvc"
    libc = _host_glibc()
    if libc is None:
        return f"{machine}-unknown-linux-musl"
    return f"{machine}-manylinux_2_{highest_floor(libc) or _GLIBC_MINORS[0]}"


def highest_floor(glibc_minor: int) -> int | None:
    """The highest manylinux floor uv has a name for that glibc 2.*glibc_minor* meets: 28 for 2.30; None below 2.17."""
    return max((minor for minor in _GLIBC_MINORS if minor <= glibc_minor), default=None)


def admitted_pythons(requires_python: str | None) -> list[str]:
    """The known minors that *requires_python* admits, newest first."""
    return [minor for minor in KNOWN_MINORS if _admits_minor(requires_python, minor)]


def choose_python(requires_python: str | None, is_installed: Callable[[str], bool]) -> str:
    """The Python minor for a script when no --python-version is given, such as "3.12".

    The newest minor that `requires-python` admits and this machine has (*is_installed*); else the newest it admits.
    Raises InputError (exit 2) when it admits none that is known.
    """
    admitted = admitted_pythons(requires_python)
    if not admitted:
        raise InputError(
            f'no known Python satisfies requires-python = "{requires_python}"',
            hint="correct it; a Python newer than this offline-bundle knows is named with --python-version",
        )
    if len(admitted) == 1:
        return admitted[0]
    return next(filter(is_installed, admitted), admitted[0])


def libc_floor(wheel_tags: Iterable[Iterable[Tag]], target: Target) -> str | None:
    """The lowest libc that suffices for the wheels with *wheel_tags*, such as "2.28"; None when any will do.

    A wheel with several tags takes the lowest; a plain `linux_*` wheel, built here, needs the target's own floor.
    """
    if not target.system.startswith("linux"):
        return None
    floors = [
        floor for tag_set in wheel_tags if (floor := _wheel_floor(tag_set, target)) is not None
    ]
    return ".".join(map(str, max(floors))) if floors else None


def _wheel_floor(tag_set: Iterable[Tag], target: Target) -> tuple[int, int] | None:
    fitting = [tag.platform for tag in tag_set if tag in target.tag_set]
    if not fitting or "any" in fitting:
        return None
    return min((_platform_floor(platform, target) for platform in fitting), default=None)


def _platform_floor(platform: str, target: Target) -> tuple[int, int]:
    legacy = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
    match = re.match(r"(?:manylinux|musllinux)_(\d+)_(\d+)_", platform)
    if match:
        return int(match[1]), int(match[2])
    return legacy.get(platform.partition("_")[0], target.glibc or (0, 0))


def _manylinux(architecture: str, highest_minor: int) -> Iterator[str]:
    """Best first: `manylinux_2_28` before older floors, each legacy alias (PEP 513, 571, 599) right after its equal."""
    aliases = {17: "manylinux2014"}
    if architecture in {"x86_64", "i686"}:
        aliases |= {12: "manylinux2010", 5: "manylinux1"}
    lowest = min(aliases)
    for minor in range(highest_minor, lowest - 1, -1):
        yield f"manylinux_2_{minor}_{architecture}"
        if minor in aliases:
            yield f"{aliases[minor]}_{architecture}"


def _host_glibc() -> int | None:
    try:
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return None
    match = re.fullmatch(r"glibc 2\.(\d+).*", text)
    return int(match[1]) if match else None


def _admits_minor(requires_python: str | None, minor: str) -> bool:
    if requires_python is None:
        return True
    major_number, minor_number = map(int, minor.split("."))
    releases = ((major_number, minor_number, micro) for micro in range(100))
    return any(python_matches(requires_python, release) for release in releases)
