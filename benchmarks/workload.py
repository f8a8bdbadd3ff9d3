"""What is built, and for which target."""

import os
import platform
import re
import tomllib
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from packaging.markers import default_environment
from packaging.tags import Tag, compatible_tags, cpython_tags

HERE = Path(__file__).parent
METADATA_BLOCK = re.compile(r"^# /// script\n((?:#(?: .*)?\n)+?)# ///$", re.MULTILINE)


@dataclass(frozen=True)
class Target:
    """One Python minor on this machine's platform: what `build-offline-bundle` takes by default."""

    python: str  # "3.12"
    machine: str  # "x86_64"
    glibc: tuple[int, int]  # (2, 36)

    @classmethod
    def this_machine(cls, python: str) -> "Target":
        """The target of this machine. Raises ValueError where there is no glibc."""
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
        if not libc.startswith("glibc "):
            raise ValueError("the benchmark knows only machines with glibc")
        major, minor = libc.removeprefix("glibc ").split(".")[:2]
        return cls(python, platform.machine(), (int(major), int(minor)))

    @property
    def abi(self) -> str:
        return "cp" + self.python.replace(".", "")

    @property
    def uv_platform(self) -> str:
        return f"{self.machine}-manylinux_{self.glibc[0]}_{self.glibc[1]}"

    @cached_property
    def platform_tags(self) -> list[str]:
        """Every platform tag a wheel for this target may carry, best first: pip must be told them
        all.
        """
        names = []
        for minor in range(self.glibc[1], 4, -1):
            names.append(f"manylinux_{self.glibc[0]}_{minor}")
            legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}.get(minor)
            if legacy:
                names.append(legacy)
        return [f"{name}_{self.machine}" for name in [*names, "linux"]]

    @cached_property
    def wheel_tags(self) -> list[Tag]:
        """Wheel tags, best first (PEP 425)."""
        version = tuple(int(part) for part in self.python.split("."))
        return [
            *cpython_tags(version, [self.abi], self.platform_tags),
            *compatible_tags(version, self.abi, self.platform_tags),
        ]

    @property
    def marker_environment(self) -> dict[str, str | AbstractSet[str]]:
        """The environment of this machine as PEP 508 markers see it, under the target's Python."""
        return {
            **{name: str(value) for name, value in default_environment().items()},
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "implementation_version": f"{self.python}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }


@dataclass(frozen=True)
class Workload:
    """One script with inline metadata (PEP 723)."""

    key: str
    script: Path
    requirements: tuple[str, ...]

    @classmethod
    def read(cls, key: str) -> "Workload":
        script = HERE / "workloads" / f"{key}.py"
        block = METADATA_BLOCK.search(script.read_text(encoding="utf-8"))
        if block is None:
            raise ValueError(f"{script} has no metadata block")
        metadata = tomllib.loads("".join(line[2:] + "\n" for line in block[1].splitlines()))
        return cls(key, script, tuple(metadata["dependencies"]))

    def pyproject(self, python: str) -> str:
        """The same requirements as a `pyproject.toml`, for tools that know no scripts."""
        listed = ", ".join(f'"{requirement}"' for requirement in self.requirements)
        return (
            f'[project]\nname = "workload-{self.key.lower()}"\nversion = "0"\n'
            f'requires-python = "=={python}.*"\ndependencies = [{listed}]\n'
        )
