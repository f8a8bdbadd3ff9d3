from __future__ import annotations

import datetime as dt
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.derived.audit_result import (
    Accepted,
    Applied,
    Audit,
    Breach,
    Finding,
    Package,
    Use,
)
from offline_bundle.wheelhouse.runtime.bundle.manifest import Publisher, Source
from tests.support.reviewed import LINUX, MAC, WINDOWS, Shelf

if TYPE_CHECKING:
    from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest


HOSTILE = (
    "</title></style></details>\"'><script>document.title='owned'</script>"
    "<img src=http://evil.example/x onerror=a()>"
)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def everything(shelf: Shelf) -> Manifest:
    """A bundle with one of each kind of thing that a reviewer should see."""
    numpy = shelf.wheel(
        "numpy", "2.0", "License-Expression: BSD-3-Clause", "Summary: Arrays", size=40_000_000
    )
    older = shelf.wheel("numpy", "1.0", "License-Expression: BSD-3-Clause", size=20_000_000)
    built = shelf.wheel(
        "built", "1.0", "License: MIT", source=Source(path="built", built_from="ab" * 32)
    )
    git = shelf.wheel(
        "from-git",
        "1.0",
        "License: MIT",
        source=Source(git="https://git.example/repo", commit="c0ffee" * 6),
    )
    yanked = shelf.wheel("sorry", "1.0", "License: MIT", yanked="it eats your data")
    unlicensed, left = shelf.wheel("unlicensed"), shelf.wheel("left", "1.0", "License: MIT")
    evil = shelf.wheel(
        "evil",
        "1.0",
        f"License: {HOSTILE[:60]}",
        f"Summary: {HOSTILE}",
        f"Author: {HOSTILE}",
        "Home-page: javascript:alert(1)",
        yanked=HOSTILE + "\u202e",
        source=Source(index=f"https://{HOSTILE}", url=HOSTILE),
    )
    scripts = {
        "eval": {LINUX: [numpy, built, git, evil], WINDOWS: [numpy]},
        "study": {LINUX: [older, yanked, unlicensed], MAC: [older]},
    }
    assert left
    asks = {"eval": ["numpy", HOSTILE], "study": ["numpy"]}
    return shelf.manifest(scripts, asks=asks, uv=["x86_64-manylinux_2_17"])


def attested(manifest: Manifest) -> Manifest:
    """The same, with attestations for numpy."""
    publisher = Publisher("GitHub", "numpy/numpy-release", "wheels.yml")
    files = {
        path: replace(file, publisher=publisher) if file.name == "numpy" else file
        for path, file in manifest.files.items()
    }
    return replace(manifest, files=files)


def audit() -> Audit:
    """An audit that found one of each kind."""

    def finding(package: str, identifier: str, severity: str, score: float | None) -> Finding:
        return Finding(
            package=Package(package, "1.0"),
            id=identifier,
            aliases=("CVE-2026-1",),
            summary="Reads too much",
            severity=severity,
            score=score,
            vector=None,
            fixed=("1.2", "2.1"),
            uses=(Use("eval", "cp312", is_direct=True),),
        )

    until = dt.date(2027, 3, 31)
    accepted = Accepted("PYSEC-2026-9", "not reachable", until)
    return Audit(
        bundle="bundle",
        packages=7,
        day=dt.date(2026, 11, 28),
        sources=("advisories.zip",),
        advisories=20_000,
        findings=Applied(
            open=(
                finding("numpy", "PYSEC-2026-1", "critical", 9.8),
                finding("sorry", "PYSEC-2026-2", "unknown", None),
            ),
            accepted=((finding("built", "PYSEC-2026-9", "low", 2.1), accepted),),
        ),
        breaches=(Breach("denied-packages", "evil 1.0", "denied by evil"),),
        unchecked=("broken.json: not valid JSON",),
    )


class _Elements(HTMLParser):
    """Every element of a page, with balanced tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
