"""Time and memory of `audit`: 300 packages against a zip file of 20,000 advisories.

    python benchmarks/audit.py [--rounds 5]

Each round is a process of its own. Advisories have the size and shape of those of the PyPA database:
ranges, a list of versions, aliases, a CVSS vector, and a text. One package in ten is affected.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

PACKAGES, ADVISORIES = 300, 20_000
_SHA256 = "0" * 64


def advisory(number: int) -> dict[str, object]:
    """Return an advisory: every 667th is for a package of the bundle."""
    package = f"package-{number // 667}" if number % 667 == 0 else f"other-{number % 5000}"
    vector = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
    events = [{"introduced": "0"}, {"fixed": "2.5"}, {"introduced": "3.0"}, {"fixed": "3.2"}]
    return {
        "id": f"TEST-2026-{number}",
        "aliases": [f"CVE-2026-{number}", f"GHSA-test-{number}"],
        "modified": "2026-01-01T00:00:00Z",
        "summary": "Reads past the end of a buffer",
        "details": "When a crafted file is opened, the parser reads past the end. " * 20,
        "severity": [{"type": "CVSS_V3", "score": vector}],
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": package},
                "ranges": [{"type": "ECOSYSTEM", "events": events}],
                "versions": [f"{major}.{minor}" for major in (1, 2, 3) for minor in range(15)],
            }
        ],
    }


def write_inputs(folder: Path) -> None:
    """Write `advisories.zip` and the manifest of a bundle."""
    with zipfile.ZipFile(folder / "advisories.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(ADVISORIES):
            document = json.dumps(advisory(number))
            archive.writestr(f"vulns/{number % 5000}/TEST-2026-{number}.json", document)
    files = {
        f"wheels/package_{number}-2.{number % 10}-py3-none-any.whl": {
            "sha256": _SHA256,
            "size": 1,
            "name": f"package-{number}",
            "version": f"2.{number % 10}",
        }
        for number in range(PACKAGES)
    }
    manifest = {
        "format": 1,
        "created-by": "benchmark",
        "timestamp": "2026-01-01T00:00:00Z",
        "scripts": {},
        "targets": {},
        "uv": {},
        "files": files,
    }
    (folder / "bundle.json").write_text(json.dumps(manifest))


def measure(folder: Path) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds, and peak memory in MiB of one audit."""
    command = [sys.executable, "-m", "offline_bundle", "audit", "bundle.json"]
    command += ["--advisories", "advisories.zip", "--format", "json"]
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    if os.waitstatus_to_exitcode(status) != 10:
        raise SystemExit("the audit found nothing: it should have")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        write_inputs(Path(name))
        results = [measure(Path(name)) for _ in range(rounds)]
    wall, cpu, memory = (statistics.median(column) for column in zip(*results, strict=True))
    print(f"{PACKAGES} packages, {ADVISORIES:,} advisories, median of {rounds}:")
    print(f"{wall:.2f} s wall, {cpu:.2f} s CPU, {memory:.0f} MiB")


if __name__ == "__main__":
    main()
