"""The far side: hostile archives, and `unpack.py` alone with an old Python."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offline_bundle.wheelhouse.runtime.archive.open import open_archives
from offline_bundle.wheelhouse.runtime.archive.unpack import main
from offline_bundle.wheelhouse.runtime.errors import BundleError, IntegrityError
from offline_bundle.wheelhouse.store.verify import verify
from offline_bundle.wheelhouse.transport.open import verify_archive
from offline_bundle.wheelhouse.transport.pack import pack
from offline_bundle.wheelhouse.transport.unpack import unpack
from tests.support.archives import archive_of, no_fsync, put_bundle, tree, wheel_path
from tests.support.characters import CHARACTERS

if TYPE_CHECKING:
    from pathlib import Path

from tests.support.unpack_cases import EVIL, Site, described, site

__all__ = ["no_fsync", "site"]


@pytest.mark.parametrize("entries", [10_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_million_entries_are_refused_like_one(tmp_path: Path, entries: int) -> None:
    files = ",".join(
        f'"w/{number}":{{"sha256":"{"0" * 64}","size":1}}' for number in range(entries)
    )
    document = (
        b'{"format":1,"created-by":"eve","timestamp":"2026-01-01T00:00:00Z","scripts":{},'
        b'"targets":{},"uv":{},"files":{"SHA256SUMS":{},%s}}' % files.encode()
    )
    (tmp_path / "x.tar").write_bytes(archive_of(document, {}))
    with (
        pytest.raises(BundleError, match="SHA256SUMS do not match"),
        open_archives([tmp_path / "x.tar"]),
    ):
        pass


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_json_value_in_a_manifest_is_accepted_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any value in any place: it is a bundle, or it is refused; never anything else."""
    folder = tmp_path_factory.mktemp("fuzz")
    contents = {"run.py": b"run", wheel_path("a", "1"): b"wheel"}
    document = json.loads(described(contents))
    places = [(document, key) for key in document]
    places += [(document["files"], key) for key in document["files"]]
    places += [
        (file, key) for file in document["files"].values() for key in ("sha256", "size", "name")
    ]
    table, key = data.draw(st.sampled_from(places))
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(CHARACTERS, max_size=5)
    )
    table[key] = data.draw(
        st.recursive(
            leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(CHARACTERS), inner)
        )
    )
    (folder / "x.tar").write_bytes(archive_of(json.dumps(document).encode(), contents))
    try:
        unpack([folder / "x.tar"], folder / "new")
    except IntegrityError:
        assert not (folder / "new/bundle.json").exists()
    else:
        assert verify(folder / "new").ok
    code = main([str(folder / "x.tar"), "-o", str(folder / "alone")])
    assert code in {0, 5}
    assert (folder / "alone/bundle.json").exists() is (code == 0)
    assert code or tree(folder / "alone").keys() == {"bundle.json", *document["files"]}
    assert {path.name for path in folder.iterdir()} <= {"x.tar", "new", "alone"}


def test_a_wheel_with_an_invalid_version_is_refused(tmp_path: Path) -> None:
    """What takes more than the standard library to see."""
    contents = {"wheels/a-1.0.potato-py3-none-any.whl": EVIL}
    (tmp_path / "x.tar").write_bytes(archive_of(described(contents), contents))
    for attempt in (
        lambda: unpack([tmp_path / "x.tar"], tmp_path / "new"),
        lambda: verify_archive([tmp_path / "x.tar"]),
    ):
        with pytest.raises(IntegrityError, match="potato"):
            attempt()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "folder", ["wheels", ".writer", "simple/alpha", ".writer/incoming", ".writer/tmp"]
)
def test_links_in_the_bundle_are_not_followed(site: Site, tmp_path: Path, folder: str) -> None:
    """Somebody has put a link where the files would go."""
    bundle = put_bundle(tmp_path / "bundle", {"next": {"alpha": "1.0", "epsilon": "1.0"}})
    pack(bundle, tmp_path / "b.tar")
    place = site.live / folder
    if place.exists():
        place.rename(tmp_path / "moved")
    place.symlink_to(site.outside)
    before = tree(site.outside)
    try:
        unpack([tmp_path / "b.tar"], site.live)
    except IntegrityError:
        assert place.is_symlink()
    else:
        assert not place.is_symlink()  # it was the writer's own, and is a folder now
    assert tree(site.outside) == before
    assert [path.name for path in site.outside.iterdir()] == ["secret"]


def test_files_are_copied_where_the_kernel_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "other file system")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    monkeypatch.delattr(os, "preadv")
    bundle = put_bundle(tmp_path / "bundle", wheel_size=700_000)
    pack(bundle, tmp_path / "b.tar", split_size=100_000)
    unpack([tmp_path / "b.tar.001"], tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(bundle)
