"""Run the tests that use system programs once more, with those programs missing.

The tests must be skipped with the line that installs the programs, and none may fail. PATH becomes
one folder of links to everything that remains. Used by `.ci/run`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.system_packages import read_list

ROOT = Path(__file__).resolve().parents[1]
OTHER_NAMES = frozenset({"chromium-browser", "google-chrome", "google-chrome-stable"})
"""Programs of packages outside the list that tests take instead."""
USES = (
    " require(",
    "bubblewrap()",
    "seal_",
    "--sealed",
    "no_network",
    "--no-network",
    "--sign",
    "make_key",
)
"""Text of tests that start such programs by way of the product, or of a helper."""


def link_programs(folder: Path, path: str, hidden: frozenset[str]) -> None:
    """Link every program on *path* into *folder*, except those of *hidden*."""
    for directory in path.split(os.pathsep):
        for program in sorted(Path(directory).glob("*")) if directory else []:
            link = folder / program.name
            if program.name in hidden or link.is_symlink() or not program.is_file():
                continue
            if os.access(program, os.X_OK):
                link.symlink_to(program.absolute())


def find_tests(root: Path, hidden: frozenset[str]) -> list[Path]:
    """Return the test files that can start one of the programs, directly or by a helper."""
    names = "|".join(map(re.escape, sorted(hidden)))
    pattern = re.compile(rf"{'|'.join(map(re.escape, USES))}|(?<![\w-])(?:{names})(?![\w-])")
    helpers = [
        path.stem
        for path in (root / "tests" / "support").glob("*.py")
        if path.stem != "programs" and pattern.search(path.read_text(encoding="utf-8"))
    ]
    imports = re.compile(rf"tests\.support\.(?:{'|'.join(helpers) or '-'})\b")
    return [
        path
        for path in sorted((root / "tests").rglob("test_*.py"))
        if pattern.search(text := path.read_text(encoding="utf-8")) or imports.search(text)
    ]


def main() -> int:
    """Run pytest without the programs; return its exit code."""
    hidden = frozenset(name for package in read_list() for name in package.programs) | OTHER_NAMES
    files = find_tests(ROOT, hidden)
    if not files:
        print("error: no test uses a system program", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        programs = Path(folder, "bin")
        programs.mkdir()
        link_programs(programs, os.environ["PATH"], hidden)
        # Under CI a missing program is a failure: here it is the point.
        environment = {name: text for name, text in os.environ.items() if name != "CI"}
        environment["PATH"] = str(programs)
        command = [sys.executable, "-m", "pytest", *map(str, files), *sys.argv[1:]]
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
