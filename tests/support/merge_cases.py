from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.store.verify import verify
from offline_bundle.wheelhouse.transport.pack import pack
from offline_bundle.wheelhouse.transport.unpack import UnpackReport, unpack

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def live(tmp_path: Path) -> Path:
    return tmp_path / "live"


def carry(bundle: Path, live: Path, **options: bool) -> UnpackReport:
    """Pack *bundle*, and unpack it to *live*, which must be whole afterwards."""
    archive = bundle.parent / f"{bundle.name}.tar"
    pack(bundle, archive)
    (done,) = unpack([archive], live, **options)  # type: ignore[arg-type]
    report = verify(live)
    assert report.ok, report.problems
    assert not report.is_interrupted
    return done
