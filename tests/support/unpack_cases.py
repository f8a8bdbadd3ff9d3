"""Shared by the unit and integration tests: The far side: hostile archives, and `unpack.py` alone
with an old Python.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from offline_bundle.wheelhouse.store.verify import verify
from offline_bundle.wheelhouse.transport.open import verify_archive
from offline_bundle.wheelhouse.transport.unpack import unpack
from tests.support.archives import put_bundle, tree, unpacker_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


SCRIPT = unpacker_path()


EVIL = b"evil\n"


class Site:
    """A live bundle, files around it that must not change, and an archive from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.live = put_bundle(folder / "site/live", text="live")
        self.outside = folder / "site/outside"
        self.outside.mkdir()
        (self.outside / "secret").write_bytes(b"keep")
        self.new = folder / "site/new"
        self.archive = folder / "evil.tar"
        self.before = tree(folder / "site")

    def refuses(self, content: bytes, *names: str) -> str:
        """Check that each command refuses *content* with exit 5 and *names*; nothing changes."""
        self.archive.write_bytes(content)
        said = []
        for output in (self.live, self.new):
            with pytest.raises(IntegrityError) as caught:
                unpack([self.archive], output, replace_scripts=True, allow_rollback=True)
            assert caught.value.hint
            said.append(str(caught.value))
        try:
            said.append(str(verify_archive([self.archive]).problems))
            assert not verify_archive([self.archive]).ok
        except IntegrityError as error:
            said.append(str(error))
        done = run_alone(sys.executable, [self.archive, "-o", self.new])
        assert done.returncode == 5, done.stderr
        said.append(done.stderr)
        for text in said:
            for name in names:
                assert name in text
            assert "Traceback" not in text
        assert tree(self.folder / "site") == self.before
        assert verify(self.live).ok
        assert not (self.new / "bundle.json").exists()
        return said[0]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def run_alone(
    python: str, arguments: Sequence[str | Path], script: Path = SCRIPT
) -> subprocess.CompletedProcess[str]:
    """Run `unpack.py` with nothing of ours in sight."""
    return subprocess.run(
        [python, "-I", "-X", "utf8", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def described(contents: dict[str, bytes], **changes: object) -> bytes:
    """A manifest that speaks of *contents*, hostile or not, and no more."""
    import hashlib

    files: dict[str, Any] = {
        path: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        for path, content in contents.items()
    }
    document = {
        "format": 1,
        "created-by": "eve",
        "timestamp": "2026-01-01T00:00:00Z",
        "scripts": {},
        "targets": {},
        "uv": {},
        "files": {"SHA256SUMS": {}, **files},
        **changes,
    }
    return json.dumps(document).encode()
