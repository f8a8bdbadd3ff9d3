"""A target: one Python version on one platform, in uv's vocabulary, with its tags and markers.

    >>> target = Target("3.12", "x86_64-manylinux_2_28")
    >>> target.name
    'cp312-x86_64-manylinux_2_28'

Everything is computed for the target; only `host_platform` depends on the build machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from packaging import tags

from offline_bundle.wheelhouse.derived.requirement_graph import marker_environment
from offline_bundle.wheelhouse.runtime.errors import InputError
from offline_bundle.wheelhouse.runtime.python.platforms import (
    GLIBC_MINORS,
    MACOS_VERSION,
    MUSL_VERSION,
    Node,
    Platform,
    full_platform_name,
    parse_platform,
    platform_names,
)
from offline_bundle.wheelhouse.runtime.python.requirements import python_matches

if TYPE_CHECKING:
    from packaging.markers import Environment
    from packaging.tags import Tag

# Python minors that a script may be bundled for by default; the newest fitting one is used.
KNOWN_MINORS = ("3.14", "3.13", "3.12", "3.11", "3.10", "3.9", "3.8")
_PYTHON = re.compile(r"3\.(?P<minor>\d+)(?:\.(?P<micro>\d+))?(?P<threads>t)?")
_PATCH_RELEASES = range(100)
_LEGACY_FLOORS = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}

System = Literal["linux-gnu", "linux-musl", "macos", "windows"]
_SYSTEMS: dict[tuple[str, str], System] = {
    ("Linux", "glibc"): "linux-gnu",
    ("Linux", "musl"): "linux-musl",
    ("Darwin", ""): "macos",
    ("Windows", ""): "windows",
}


@dataclass(frozen=True)
class Target:
    """One (Python version, platform) pair.

    `python` is a minor such as "3.12", or "3.13t" for the free-threaded build; `platform` is one of
    uv's long names.
    """

    python: str
    platform: str

    @property
    def name(self) -> str:
        """Key in a bundle: `cp312-x86_64-manylinux_2_28`. PEP 751 file names forbid dots."""
        return f"cp{self.python.replace('.', '')}-{self.platform}"

    @property
    def is_free_threaded(self) -> bool:
        """Whether the target is a build without the GIL (PEP 703), with its own ABI."""
        return self.python.endswith("t")

    @property
    def version(self) -> tuple[int, int]:
        """The Python version as numbers, (3, 12)."""
        major, minor = self.python.rstrip("t").split(".")
        return int(major), int(minor)

    @property
    def architecture(self) -> str:
        """The processor in uv's vocabulary: `x86_64`, `aarch64`, `i686`."""
        return self._platform.machine

    @property
    def glibc(self) -> tuple[int, int] | None:
        """The glibc floor, (2, 28), or None where the platform has no glibc."""
        if self._platform.libc_family != "glibc":
            return None
        major, minor = self._platform.libc_version
        return major, minor

    @property
    def system(self) -> System:
        """The family of operating system and libc."""
        return _SYSTEMS[self._platform.system, self._platform.libc_family]

    @property
    def runs_here(self) -> bool:
        """Whether wheels built here fit the target: same system and processor, no older libc."""
        here = Target(self.python, host_platform())
        if (here.system, here.architecture) != (self.system, self.architecture):
            return False
        return self.glibc is None or here.glibc is None or self.glibc >= here.glibc

    @cached_property
    def _platform(self) -> Platform:
        platform = parse_platform(self.platform)
        is_complete = platform.libc_family != "glibc" or len(platform.libc_version) == 2
        if (platform.system, platform.libc_family) in _SYSTEMS and is_complete:
            return platform
        raise _unknown_platform(self.platform)

    def environment(self, full_version: str) -> Environment:
        """Return the marker environment (PEP 508) for *full_version* such as "3.12.0", as uv."""
        return marker_environment(self.platform, full_version)

    @cached_property
    def tags(self) -> tuple[Tag, ...]:
        """The wheel tags that fit the target, best first (PEP 425, 600, 656)."""
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
        """The same tags without their order."""
        return frozenset(self.tags)

    def _platforms(self) -> Iterator[str]:
        if self.glibc:
            yield from _manylinux(self.architecture, self.glibc[1])
            yield f"linux_{self.architecture}"
        elif self.system == "linux-musl":
            for minor in range(MUSL_VERSION[1], -1, -1):
                yield f"musllinux_{MUSL_VERSION[0]}_{minor}_{self.architecture}"
            yield f"linux_{self.architecture}"
        elif self.system == "macos":
            machine = "arm64" if self.architecture == "aarch64" else self.architecture
            yield from tags.mac_platforms(MACOS_VERSION, machine)
        else:
            names = {"x86_64": "win_amd64", "aarch64": "win_arm64", "i686": "win32"}
            yield names[self.architecture]

    def full_version(self, requires_python: str | None) -> str:
        """Return the lowest patch release that *requires_python* admits, to resolve for.

        `==3.12` means 3.12.0 in PEP 440; sites write it for 3.12.*, and uv runs it so.
        Raises InputError (exit 2) when no release of the minor is admitted.
        """
        first = next(self._releases(requires_python, _PATCH_RELEASES), None)
        if first:
            return first
        raise InputError(
            f"Python {self.python} is not admitted by the script's "
            f'requires-python = "{requires_python}"',
            hint="leave out --python-version, or change it",
        )

    def last_version(self, requires_python: str | None) -> str:
        """Return the highest patch release that *requires_python* admits, even if not released."""
        highest_first = self._releases(requires_python, reversed(_PATCH_RELEASES))
        return next(highest_first, self.full_version(requires_python))

    def _releases(self, requires_python: str | None, micros: Iterable[int]) -> Iterator[str]:
        for micro in micros:
            if python_matches(requires_python, (*self.version, micro)):
                yield ".".join(map(str, (*self.version, micro)))


def make_target(python: str, platform: str) -> Target:
    """Return a Target for names typed by a user, also short ones.

    Raises InputError (exit 2) for names that uv does not have.
    """
    match = _PYTHON.fullmatch(python)
    if match is None:
        raise InputError(f"{python}: not a Python version", hint="write it as 3.12")
    name = full_platform_name(platform)
    if name not in platform_names():
        raise _unknown_platform(platform)
    return Target(f"3.{match['minor']}{match['threads'] or ''}", name)


def _unknown_platform(name: str) -> InputError:
    pip_name = re.fullmatch(r"manylinux(2014|_2_\d+)(?:_(x86_64|aarch64))?", name)
    if pip_name:
        floor = "_2_17" if pip_name[1] == "2014" else pip_name[1]
        hint = f"uv's name is {pip_name[2] or 'x86_64'}-manylinux{floor}"
    elif re.fullmatch(r"\w+-manylinux_2_\d+", name):
        floors = ", ".join(f"2_{minor}" for minor in GLIBC_MINORS)
        hint = f"use the next lower manylinux floor that uv has: {floors}"
    else:
        hint = (
            "use one of uv's names: x86_64-manylinux_2_28, aarch64-manylinux_2_17, "
            "x86_64-unknown-linux-musl, aarch64-apple-darwin, x86_64-pc-windows-msvc"
        )
    return InputError(f"{name}: uv has no such platform", hint=hint)


def host_platform() -> str:
    """Return this machine in uv's vocabulary, with the highest manylinux floor of its glibc."""
    return Node().build_platform()


def admitted_pythons(requires_python: str | None) -> list[str]:
    """Return the known minors that *requires_python* admits, newest first."""
    return [minor for minor in KNOWN_MINORS if _admits_minor(requires_python, minor)]


def choose_python(requires_python: str | None, is_installed: Callable[[str], bool]) -> str:
    """Return the Python minor for a script without --python-version, such as "3.12".

    The newest minor that `requires-python` admits and this machine has (*is_installed*); else the
    newest it admits. Raises InputError (exit 2) when it admits no known minor.
    """
    admitted = admitted_pythons(requires_python)
    if not admitted:
        raise InputError(
            f'no known Python satisfies requires-python = "{requires_python}"',
            hint="correct it, or name a newer Python with --python-version",
        )
    if len(admitted) == 1:
        return admitted[0]
    return next(filter(is_installed, admitted), admitted[0])


def libc_floor(wheel_tags: Iterable[Iterable[Tag]], target: Target) -> str | None:
    """Return the lowest libc for all wheels with *wheel_tags*, e.g. "2.28"; None if any will do.

    A wheel with several tags needs the lowest; a `linux_*` wheel, built here, the target's floor.
    """
    if not target.system.startswith("linux"):
        return None
    floors = [floor for tag_set in wheel_tags if (floor := _wheel_floor(tag_set, target))]
    return ".".join(map(str, max(floors))) if floors else None


def _wheel_floor(tag_set: Iterable[Tag], target: Target) -> tuple[int, int] | None:
    fitting = [tag.platform for tag in tag_set if tag in target.tag_set]
    if not fitting or "any" in fitting:
        return None
    return min(_platform_floor(platform, target) for platform in fitting)


def _platform_floor(platform: str, target: Target) -> tuple[int, int]:
    match = re.match(r"(?:manylinux|musllinux)_(\d+)_(\d+)_", platform)
    if match:
        return int(match[1]), int(match[2])
    return _LEGACY_FLOORS.get(platform.partition("_")[0], target.glibc or (0, 0))


def _manylinux(architecture: str, highest_minor: int) -> Iterator[str]:
    """Yield best first; each legacy alias (PEP 513, 571, 599) follows its equal."""
    aliases = {17: "manylinux2014"}
    if architecture in {"x86_64", "i686"}:
        aliases |= {12: "manylinux2010", 5: "manylinux1"}
    for minor in range(highest_minor, min(aliases) - 1, -1):
        yield f"manylinux_2_{minor}_{architecture}"
        if minor in aliases:
            yield f"{aliases[minor]}_{architecture}"


def _admits_minor(requires_python: str | None, minor: str) -> bool:
    major_number, minor_number = map(int, minor.split("."))
    releases = ((major_number, minor_number, micro) for micro in _PATCH_RELEASES)
    return any(python_matches(requires_python, release) for release in releases)
