"""Rules of jobs that hold in every engine: which files are outputs. Also a program for HPS nodes.

    job_rules.py COMMAND...

The execution script of HPS starts it around the launcher, with the rules as JSON in
OFFLINE_BUNDLE_RULES. It gives the script the number of the job, and prints a line for each required
output that is missing; then it exits with 1. Before that it removes files that HPS would collect
though they are not outputs: HPS collects whatever matches a pattern. Standard library only,
Python 3.8 or newer.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Optional, Sequence, Tuple  # noqa: UP035 - Python 3.8

OWN_FILES = (
    "console_output.txt",
    ".job.json",
    "input_parameters.json",
    "hps_exec_script.py",
    "offline_bundle_job.py",
)
"""Files that engines write in the folder of a job: no pattern matches them as outputs."""


class Outputs(NamedTuple):
    """Patterns of output files, and the largest file that they collect."""

    patterns: Tuple[str, ...]  # noqa: UP006 - Python 3.8 evaluates it
    limit: Optional[int] = None  # noqa: UP045
    """In bytes; None for no limit."""
    required: bool = True
    """True if each pattern must match a file."""

    @classmethod
    def read(cls, document: Dict[str, Any]) -> Outputs:  # noqa: UP006
        """Read what `_asdict` returned. Raises KeyError or TypeError."""
        return cls(tuple(document["patterns"]), document["limit"], document["required"])

    def matches(self, path: str) -> bool:
        """Return True if a pattern matches a relative path."""
        return any(_matches(pattern, path) for pattern in self.patterns)

    def find(self, folder: Path) -> list[tuple[str, int]]:
        """Return the outputs in a job's *folder* as sorted (relative path, bytes)."""
        return [
            (path, size)
            for path, size in list_files(folder)
            if path not in OWN_FILES
            and self.matches(path)
            and (self.limit is None or size <= self.limit)
        ]

    def problems(self, paths: Sequence[str]) -> list[str]:
        """Return a line for each required pattern that matches none of *paths*."""
        if not self.required:
            return []
        return [
            self.problem(pattern)
            for pattern in self.patterns
            if not any(_matches(pattern, path) for path in paths)
        ]

    def problem(self, pattern: str) -> str:
        """Return the line for a pattern that matches nothing."""
        larger = "" if self.limit is None else f", or larger than {self.limit:,} bytes"
        return f"error: output is missing{larger}: {pattern}"


def fill(text: str, values: Dict[str, Any]) -> str:  # noqa: UP006
    """Replace `{name}` by a value; `{{` and `}}` are braces. Raises KeyError for another name."""

    def replace(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        value = values[match[1]]
        return str(value).lower() if isinstance(value, bool) else str(value)

    return re.sub(r"\{\{|\}\}|\{([^{}]*)\}", replace, text)


def list_files(folder: Path) -> list[tuple[str, int]]:
    """Return the files below *folder* as sorted (relative path, bytes).

    Links to files are followed if they end in *folder*; links to folders are not.
    """
    found, real = [], os.path.realpath(folder)
    for path in _paths(folder):
        size = _output_size(path, real)
        if size is not None:
            found.append((path.relative_to(folder).as_posix(), size))
    return sorted(found)


def _paths(folder: Path) -> Iterator[Path]:
    """Yield what is below *folder*, besides folders. os.walk recurses: too deep for some."""
    folders = [str(folder)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    yield Path(entry.path)


def _output_size(path: Path, folder: str) -> Optional[int]:  # noqa: UP045
    """Return the bytes of a regular file; None for anything else, and a link out of *folder*."""
    try:
        if path.is_symlink() and not os.path.realpath(path).startswith(folder + os.sep):
            return None
        status = path.stat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _matches(pattern: str, path: str) -> bool:
    is_folder = pattern.endswith("/")
    wanted, parts = pattern.rstrip("/").split("/"), path.split("/")
    if is_folder and len(parts) > len(wanted):
        parts = parts[: len(wanted)]
    elif is_folder:
        return False
    return len(parts) == len(wanted) and all(map(_matches_name, parts, wanted))


def _matches_name(name: str, pattern: str) -> bool:
    is_hidden = name.startswith(".") and not pattern.startswith(".")
    return not is_hidden and fnmatchcase(name, pattern)


def main() -> int:
    """Run the command in the arguments by the rules; return the exit code."""
    rules = json.loads(os.environ["OFFLINE_BUNDLE_RULES"])
    if hasattr(signal, "SIGCHLD"):  # ignored by a parent, it would make each exit code 0
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    values = _take_values()
    variables = {"OFFLINE_BUNDLE_JOB": str(values.pop("offline_bundle_job"))}
    words = [fill(word, values) for word in rules["arguments"]]
    command = [*rules["run_with"], *sys.argv[1:], *words]
    try:
        process = subprocess.Popen(command, env={**os.environ, **variables})
    except OSError as error:
        sys.stdout.write(f"error: the job could not start: {error.filename}: {error.strerror}\n")
        return 126
    # an evaluator may end this process only
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    code = process.wait()
    if code:
        return code if code > 0 else 128 - code
    lines = _finish(Outputs.read(rules["outputs"]), rules["inputs"])
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if any(line.startswith("error: ") for line in lines) else 0


def _take_values() -> dict[str, Any]:
    """Return the values of the job; leave those of the script to it."""
    path = Path("input_parameters.json")
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    if len(values) > 1:
        own = {name: value for name, value in values.items() if name != "offline_bundle_job"}
        path.write_text(json.dumps(own), encoding="utf-8")
    return values


def _finish(outputs: Outputs, inputs: list[str]) -> list[str]:
    """Remove what HPS must not collect; return lines for the console."""
    lines = []
    for link in [*_paths(Path())]:
        if os.path.isdir(link):  # noqa: PTH112 - no error for what cannot be read
            link.unlink()  # HPS would collect what is behind it
    collected = [path for path, _ in outputs.find(Path()) if path not in inputs]
    for path, size in list_files(Path()):
        # for HPS, `*.csv` also matches `.hidden.csv`
        if path not in collected and outputs.matches(re.sub(r"(^|/)[.]+", r"\1", path)):
            Path(path).unlink()
            if outputs.matches(path) and path not in {*inputs, *OWN_FILES}:
                lines.append(f"note: {path} is not collected: it has {size:,} bytes")
    return lines + outputs.problems(collected)


if __name__ == "__main__":
    sys.exit(main())
