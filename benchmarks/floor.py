"""The floor: the same uv resolve, and a bare pool of eight threads that downloads and hashes the
lock's URLs.

Nothing that brings packages from an index to a directory can be expected to be much faster than this; all
ratios of the benchmark are against it. It writes no index, no manifest and no launcher, and keeps no cache.

    python floor.py UV PYPROJECT OUT --python 3.12        prints {"resolve": seconds, "download": seconds}
"""

import argparse
import hashlib
import json
import subprocess
import threading
import time
import tomllib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
from packaging.markers import Marker
from packaging.utils import parse_wheel_filename
from workload import Target

THREADS = 8
CHUNK = 1 << 20  # bytes

local = threading.local()


def compile_command(uv: str, pyproject: Path, lock: Path, target: Target) -> list[str]:
    return [
        *[
            uv,
            "pip",
            "compile",
            str(pyproject),
            "--quiet",
            "--format",
            "pylock.toml",
            "--output-file",
            str(lock),
        ],
        *["--python-version", target.python, "--python-platform", target.uv_platform],
        *["--only-binary", ":all:"],
    ]


def chosen_wheels(lock: Path, target: Target) -> dict[str, dict[str, Any]]:
    """The one wheel to take of each package in a PEP 751 lock, by package name."""
    rank = {tag: position for position, tag in enumerate(target.wheel_tags)}
    chosen = {}
    for package in tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]:
        marker = package.get("marker")
        if marker and not Marker(marker).evaluate(target.marker_environment):
            continue
        chosen[package["name"]] = min(package["wheels"], key=lambda wheel: wheel_rank(wheel, rank))
    return chosen


def wheel_rank(wheel: Mapping[str, Any], rank: Mapping[Any, int]) -> int:
    tags = parse_wheel_filename(wheel_name(wheel))[3]
    return min(rank.get(tag, len(rank)) for tag in tags)


def wheel_name(wheel: Mapping[str, Any]) -> str:
    name: str = wheel.get("name") or wheel["url"].rsplit("/", 1)[1]
    return name


def download(wheel: Mapping[str, Any], directory: Path) -> None:
    """Download one wheel. Raises ValueError when its sha256 is not the lock's."""
    if not hasattr(local, "session"):
        local.session = requests.Session()
    digest = hashlib.sha256()
    with (
        local.session.get(wheel["url"], stream=True, timeout=180) as response,
        (directory / wheel_name(wheel)).open("wb") as file,
    ):
        response.raise_for_status()
        for chunk in response.iter_content(CHUNK):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != wheel["hashes"]["sha256"]:
        raise ValueError(f"{wheel_name(wheel)} does not match the lock's sha256")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uv")
    parser.add_argument("pyproject", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--python", default="3.12")
    arguments = parser.parse_args()
    target = Target.this_machine(arguments.python)
    lock = arguments.out / "pylock.toml"
    wheels = arguments.out / "wheels"
    wheels.mkdir(parents=True)
    start = time.perf_counter()
    subprocess.run(compile_command(arguments.uv, arguments.pyproject, lock, target), check=True)
    resolved = time.perf_counter()
    largest_first = sorted(
        chosen_wheels(lock, target).values(), key=lambda wheel: -wheel.get("size", 0)
    )
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda wheel: download(wheel, wheels), largest_first))
    fetched = time.perf_counter()
    print(json.dumps({"resolve": resolved - start, "download": fetched - resolved}))


if __name__ == "__main__":
    main()
