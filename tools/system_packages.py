"""Install the Debian packages that the tests use; on other systems, print what to install.

Used by `make system-packages` and `.ci/run`. Standard library only: it runs before `make setup`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("system-packages.txt")


@dataclass(frozen=True)
class Package:
    """A Debian package, and the programs for which tests need it."""

    name: str
    programs: tuple[str, ...]


def read_list(path: Path = LIST) -> list[Package]:
    """Return the packages of a list, in its order."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return [Package(words[0], tuple(words[1:])) for words in lines if words and words[0] != "#"]


def is_installed(package: str) -> bool:
    """Return whether dpkg has the package."""
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout == "installed"


def install_commands(packages: list[str], *, as_root: bool) -> list[list[str]]:
    """Return the commands that install packages on Debian."""
    prefix = [] if as_root else ["sudo"]
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    options = ["-y", "-qq", "--no-install-recommends"]
    return [
        [*prefix, "apt-get", "update", "-qq"],
        [*prefix, *environment, "apt-get", "install", *options, *packages],
    ]


def describe_other_system(packages: list[Package]) -> str:
    """Return what to install where there is no apt-get, with the programs that are missing here."""
    missing = [name for package in packages for name in package.programs if not shutil.which(name)]
    lines = [
        "apt-get: not found; this target installs packages on Debian and Ubuntu only",
        "hint: install what provides these programs with your system's package manager:",
        *(f"  {name}" for name in missing),
        "Debian's packages for them are:",
        f"  {' '.join(package.name for package in packages)}",
    ]
    return "\n".join(lines)


def main() -> int:
    """Install what is missing; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    arguments = parser.parse_args()
    packages = read_list()
    if not (shutil.which("apt-get") and shutil.which("dpkg-query")):
        print(describe_other_system(packages))
        return 0 if arguments.dry_run else 1
    missing = [package.name for package in packages if not is_installed(package.name)]
    if not missing:
        print("All system packages are installed.")
        return 0
    for command in install_commands(missing, as_root=os.geteuid() == 0):
        print("+", *command, flush=True)
        if not arguments.dry_run:
            # apt lists hundreds of lines: only errors are of interest.
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        sys.exit(f"error: {error}\nhint: run this as root, or install sudo")
