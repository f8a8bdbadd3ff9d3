"""Run the runtime's portable tests on the Python that runs this file, 3.9 or newer.

Only pytest is needed: `python -m pip install --require-hashes -r requirements-runtime.txt`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run pytest with its defaults; return its exit code."""
    command = [sys.executable, "-B", "-W", "error", "-m", "pytest", "--noconftest"]
    # pyproject.toml's options belong to Python 3.11 and to plugins that are not installed here.
    command += ["-c", os.devnull, "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    command += ["--import-mode=importlib", "-q", str(ROOT / "tests" / "unit" / "portable")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, *sys.argv[1:]], cwd=ROOT, env=environment, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
