"""Room for an environment, and a failure that other starts hear of."""

from __future__ import annotations

import os
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.wheelhouse.runtime.errors import BundleError, IntegrityError
from offline_bundle.wheelhouse.runtime.launcher.os_errors import no_space
from offline_bundle.wheelhouse.runtime.launcher.prepare import failed_attempts
from offline_bundle.wheelhouse.runtime.launcher.prepare.failed_attempts import (
    check_room,
    raise_failure_since,
    remember_failure,
    remove_rest,
)

if TYPE_CHECKING:
    from pathlib import Path


def plan_of(size: int) -> Any:  # noqa: ANN401
    """A plan with one wheel of *size* bytes."""
    files = {"wheels/a.whl": SimpleNamespace(size=size)}
    lock = SimpleNamespace(packages={"a": SimpleNamespace(wheel="wheels/a.whl")})
    return SimpleNamespace(bundle=SimpleNamespace(manifest=SimpleNamespace(files=files)), lock=lock)


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="Windows does not tell")
def test_an_environment_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    check_room(plan_of(10), str(tmp_path))
    with pytest.raises(BundleError) as raised:
        check_room(plan_of(1 << 60), str(tmp_path))
    assert raised.value.message == f"no space left in the cache {tmp_path}"
    assert "2,305,843,009,213,693,952 bytes are needed" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="Windows does not tell")
def test_what_uv_has_unpacked_goes_if_the_disk_is_full(tmp_path: Path) -> None:
    (tmp_path / "uv" / "archive").mkdir(parents=True)
    remove_rest(plan_of(10), str(tmp_path))
    assert (tmp_path / "uv" / "archive").is_dir()
    remove_rest(plan_of(1 << 60), str(tmp_path))
    assert not (tmp_path / "uv").exists()


def test_a_failure_is_raised_again_for_starts_that_began_before_it(tmp_path: Path) -> None:
    home = str(tmp_path / "environment")
    raise_failure_since(home, 0)
    remember_failure(home, IntegrityError("damaged", hint="copy it", problems=["a.whl"]), 0)
    note = tmp_path / "environment.failed"
    failed = note.stat().st_mtime
    with pytest.raises(BundleError, match=r"damaged\n  a.whl") as raised:
        raise_failure_since(home, failed - 1)
    assert (raised.value.exit_code, raised.value.hint) == (5, "copy it")
    raise_failure_since(home, failed + 1)
    note.write_text("{")
    raise_failure_since(home, 0)


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="Windows does not tell")
@pytest.mark.parametrize(
    ("age", "freed", "is_remembered"),
    [(1, 0, True), (59, 1 << 23, True), (61, 0, False), (1, 1 << 24, False)],
)
def test_a_full_disk_is_remembered_for_a_minute(
    age: int,
    freed: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_remembered: bool,
) -> None:
    monkeypatch.setattr(failed_attempts, "free_space", lambda _: 1000 + freed)
    home = str(tmp_path / "environment")
    remember_failure(home, no_space("cache"), 1000)
    later = (tmp_path / "environment.failed").stat().st_mtime + age
    expected = pytest.raises(BundleError, match="no space") if is_remembered else nullcontext()
    with expected:
        raise_failure_since(home, later)
