"""Shared by the unit and integration tests: The launcher with real bundles, interpreters, uv and
processes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.bundles import read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


UV = shutil.which(
    "uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
)


SHOW = """import alpha, json, os, sys
print(json.dumps([alpha.VERSION, sys.argv, os.getcwd(), sys.prefix, sys.path]))
"""


needs_root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0,
    reason="only root may start a process as another user",
)


needs_posix = pytest.mark.skipif(
    sys.platform == "win32", reason="signals, users and modes are POSIX's"
)


class Node:
    """A node of its own: a bundle, a cache folder, a home, and an environment for the launcher."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundle = folder / "my bundle"
        self.cache = folder / "my cache"
        self.variables = {
            "HOME": str(folder / "home with spaces"),
            "OFFLINE_BUNDLE_CACHE": str(self.cache),
            "OFFLINE_BUNDLE_UV": UV or "uv",
            "PATH": os.defpath,
            "COVERAGE_PROCESS_START": "",
        }

    def command(self, *arguments: str | Path, python: str = sys.executable) -> list[str]:
        return [python, str(self.bundle / "run.py"), *map(str, arguments)]

    def run(
        self,
        *arguments: str | Path,
        python: str = sys.executable,
        variables: Mapping[str, str | None] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments, python=python),
            env=self.environ(variables),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,
        )
        assert "Traceback" not in done.stderr or "intended" in done.stderr, done.stderr
        return done

    def run_changed(
        self, change: str, *arguments: str | Path, variables: Mapping[str, str | None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the bundle's launcher after *change*, Python code."""
        start = (
            f"import sys\nsys.dont_write_bytecode = True\nsys.path.insert(0, {str(self.bundle)!r})"
        )
        imports = (
            "from runtime.launcher import cold_start, trusted_bundle\n"
            "from runtime.launcher.prepare import bundled_python"
        )
        main = f"sys.exit(cold_start.main(sys.argv[1:], {str(self.bundle)!r}))"
        code = f"{start}\n{imports}\n{change}\n{main}"
        command = [sys.executable, "-c", code, *map(str, arguments)]
        environ = self.environ(variables)
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    def environ(self, variables: Mapping[str, str | None] | None = None) -> dict[str, str]:
        merged = {**self.variables, **(variables or {})}
        return {name: value for name, value in merged.items() if value is not None}

    def script(self, name: str = "eval") -> Path:
        return self.bundle / "scripts" / f"{name}.py"

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def environments(self) -> list[Path]:
        return sorted((self.cache / "environments").glob("*/complete.json"))

    def failure(self, code: int, *arguments: str | Path, **options: Any) -> str:  # noqa: ANN401
        done = self.run(*arguments, **options)
        assert done.returncode == code, (done.returncode, done.stderr)
        assert done.stderr.startswith("error: "), done.stderr
        assert done.stdout == ""
        return done.stderr


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def change(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    manifest = read_manifest(bundle)
    edit(manifest)
    (bundle / "bundle.json").write_text(json.dumps(manifest))


def pyenv_python(minor: str) -> str | None:
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return next(
        (str(path) for path in sorted(root.glob(f"versions/{minor}.*/bin/python{minor}"))), None
    )


def python_of(minor: str) -> str:
    """An interpreter of that minor, as launcher or as target."""
    found = pyenv_python(minor) or shutil.which(f"python{minor}")
    works = (
        found
        and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0
    )
    if not works or not found:
        pytest.skip(f"this machine has no Python {minor}")
    return found


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.rglob(pattern)
    return found
