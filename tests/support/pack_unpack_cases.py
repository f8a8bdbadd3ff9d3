from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.store.verify import verify
from offline_bundle.wheelhouse.transport.pack import pack
from tests.support.archives import put_bundle

if TYPE_CHECKING:
    from pathlib import Path


PACKAGES = dict.fromkeys(("alpha", "beta", "gamma", "delta"), "1.0")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return put_bundle(tmp_path / "bundle", {"eval": PACKAGES})


@pytest.fixture
def archive(bundle: Path, tmp_path: Path) -> Path:
    pack(bundle, tmp_path / "bundle.tar")
    return tmp_path / "bundle.tar"


def is_whole(bundle: Path) -> bool:
    report = verify(bundle)
    return report.ok and not report.is_interrupted


@pytest.fixture
def parts(bundle: Path, tmp_path: Path) -> list[Path]:
    (tmp_path / "medium").mkdir()
    put_bundle(bundle, {"eval": PACKAGES}, wheel_size=60_000)
    return list(pack(bundle, tmp_path / "medium/b.tar", split_size=64 * 1024).files)
