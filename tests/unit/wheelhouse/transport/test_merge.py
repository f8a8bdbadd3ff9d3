from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.bundle.manifest import read_manifest
from offline_bundle.wheelhouse.runtime.errors import IntegrityError
from offline_bundle.wheelhouse.store.verify import verify
from offline_bundle.wheelhouse.transport.pack import pack
from offline_bundle.wheelhouse.transport.unpack import unpack
from tests.support.archives import LINUX, MAC, digest_of, no_fsync, put_bundle, tree, wheel_path

if TYPE_CHECKING:
    from pathlib import Path
from tests.support.merge_cases import carry, live

__all__ = ["live", "no_fsync"]


def test_scripts_of_both_bundles_share_wheels(tmp_path: Path, live: Path) -> None:
    one = put_bundle(tmp_path / "one", {"eval": {"alpha": "1.0", "beta": "1.0"}})
    two = put_bundle(tmp_path / "two", {"plot": {"beta": "1.0", "gamma": "1.0"}})
    carry(one, live)
    inode = (live / wheel_path("beta", "1.0")).stat().st_ino
    assert carry(two, live).relation == "other"
    manifest = read_manifest(live)
    assert set(manifest.scripts) == {"eval", "plot"}
    assert manifest.files[wheel_path("beta", "1.0")].needed_by == (f"eval/{LINUX}", f"plot/{LINUX}")
    assert (live / wheel_path("beta", "1.0")).stat().st_ino == inode
    for name in ("alpha", "beta", "gamma"):
        assert f"{name}-1.0" in (live / f"simple/{name}/index.html").read_text()
        assert f'href="{name}/"' in (live / "simple/index.html").read_text()
    assert manifest.generation == 2
    assert manifest.ancestors == (digest_of(one), digest_of(two))


def test_targets_of_one_script_are_merged(tmp_path: Path, live: Path) -> None:
    carry(put_bundle(tmp_path / "one", target=LINUX), live)
    carry(put_bundle(tmp_path / "two", target=MAC), live)
    manifest = read_manifest(live)
    assert set(manifest.scripts["eval"].locks) == set(manifest.targets) == {LINUX, MAC}
    assert manifest.files[wheel_path("alpha", "1.0")].needed_by == (f"eval/{MAC}", f"eval/{LINUX}")


def test_the_order_of_merges_changes_the_history_only(tmp_path: Path) -> None:
    one = put_bundle(tmp_path / "one", {"eval": {"alpha": "1.0"}})
    two = put_bundle(
        tmp_path / "two",
        {"plot": {"gamma": "1.0"}},
        launcher=b"newer",
        created_by="offline-bundle 0.2.0",
    )
    for order in ((one, two), (two, one)):
        for bundle in order:
            carry(bundle, tmp_path / f"live-{order[0].name}")
    trees = [tree(tmp_path / f"live-{name}") for name in ("one", "two")]
    for found in trees:
        assert found["run.py"] == b"newer"
        del found["bundle.json"], found["SHA256SUMS"]
    assert trees[0] == trees[1]


def test_merging_again_changes_nothing(tmp_path: Path, live: Path) -> None:
    one, two = (
        put_bundle(tmp_path / "one"),
        put_bundle(tmp_path / "two", {"plot": {"gamma": "1.0"}}),
    )
    carry(one, live)
    carry(two, live)
    before = tree(live)
    assert not carry(two, live).changed
    assert not carry(one, live).changed
    assert tree(live) == before


def test_wheels_of_one_name_with_other_bytes_are_refused_by_name(
    tmp_path: Path, live: Path
) -> None:
    carry(put_bundle(tmp_path / "one"), live)
    before = tree(live)
    other = put_bundle(
        tmp_path / "two", {"plot": {"alpha": "1.0", "gamma": "1.0"}}, wheel_seed="rebuilt"
    )
    for options in ({}, {"replace_scripts": True}):
        with pytest.raises(IntegrityError, match="other bytes") as caught:
            carry(other, live, **options)
        (problem,) = caught.value.problems
        assert problem.startswith(wheel_path("alpha", "1.0"))
        assert tree(live) == before


@pytest.mark.parametrize(
    ("packages", "text", "reason"),
    [
        ({"alpha": "1.0"}, "", "eval: other requirements"),
        ({"alpha": "2.0", "beta": "1.0"}, "", f"eval: another lock for {LINUX}"),
        ({"alpha": "1.0", "beta": "1.0"}, "edited", "eval: other text of the script"),
    ],
)
def test_a_different_script_is_taken_only_on_request(
    tmp_path: Path, live: Path, packages: dict[str, str], text: str, reason: str
) -> None:
    carry(put_bundle(tmp_path / "one"), live)
    before = tree(live)
    other = put_bundle(tmp_path / "two", {"eval": packages}, text=text)
    with pytest.raises(IntegrityError, match="none is known to be newer") as caught:
        carry(other, live)
    assert reason in caught.value.problems
    assert "--replace" in (caught.value.hint or "")
    assert tree(live) == before
    assert carry(other, live, replace_scripts=True).changed
    assert (live / "scripts/eval.py").read_bytes() == (other / "scripts/eval.py").read_bytes()
    assert (
        read_manifest(live).scripts["eval"].locks[LINUX]
        == read_manifest(other).scripts["eval"].locks[LINUX]
    )


def test_a_descendant_replaces_what_it_descends_from(tmp_path: Path, live: Path) -> None:
    one = put_bundle(tmp_path / "one", {"eval": {"alpha": "1.0"}, "old": {"beta": "1.0"}})
    carry(one, live)
    put_bundle(one, {"eval": {"alpha": "2.0"}})
    assert carry(one, live).relation == "newer"
    assert tree(live) == tree(one)


def test_a_descendant_replaces_its_part_of_a_merged_bundle(tmp_path: Path, live: Path) -> None:
    one = put_bundle(tmp_path / "one", {"eval": {"alpha": "1.0"}, "old": {"beta": "1.0"}})
    two = put_bundle(tmp_path / "two", {"plot": {"gamma": "1.0"}})
    carry(one, live)
    carry(two, live)
    put_bundle(one, {"eval": {"alpha": "2.0"}, "new": {"delta": "1.0"}})
    carry(one, live)
    manifest = read_manifest(live)
    assert set(manifest.scripts) == {"eval", "new", "plot"}  # "old" was removed there
    assert manifest.scripts["eval"].locks[LINUX].packages["alpha"].version == "2.0"
    assert not (live / "scripts/old.py").exists()
    assert not (live / "locks/old").exists()
    put_bundle(two, {"plot": {"gamma": "2.0"}})
    carry(two, live)
    assert read_manifest(live).scripts["plot"].locks[LINUX].packages["gamma"].version == "2.0"


def test_a_difference_updates_a_merged_bundle(tmp_path: Path, live: Path) -> None:
    one = put_bundle(tmp_path / "one", {"eval": {"alpha": "1.0", "beta": "1.0"}})
    carry(one, live)
    carry(put_bundle(tmp_path / "two", {"plot": {"gamma": "1.0"}}), live)
    put_bundle(one, {"eval": {"alpha": "2.0", "beta": "1.0"}})
    pack(one, tmp_path / "d.tar", since=tmp_path / "one.tar")
    unpack([tmp_path / "d.tar"], live)
    assert verify(live).ok
    assert read_manifest(live).scripts["eval"].locks[LINUX].packages["alpha"].version == "2.0"


def test_a_rollback_of_a_merged_bundle_is_refused_unless_allowed(
    tmp_path: Path, live: Path
) -> None:
    one = put_bundle(tmp_path / "one", {"eval": {"alpha": "1.0"}})
    pack(one, tmp_path / "first.tar")
    carry(one, live)
    carry(put_bundle(tmp_path / "two", {"plot": {"gamma": "1.0"}}), live)
    put_bundle(one, {"eval": {"alpha": "2.0"}})
    carry(one, live)
    with pytest.raises(IntegrityError, match="older"):
        unpack([tmp_path / "first.tar"], live)
    unpack([tmp_path / "first.tar"], live, allow_rollback=True)
    manifest = read_manifest(live)
    assert manifest.scripts["eval"].locks[LINUX].packages["alpha"].version == "1.0"
    assert "plot" in manifest.scripts
    assert verify(live).ok


def test_a_script_changed_in_place_is_not_overwritten(tmp_path: Path, live: Path) -> None:
    one = put_bundle(tmp_path / "one", {"eval": {"alpha": "1.0"}})
    carry(one, live)
    put_bundle(live, {"eval": {"alpha": "1.5"}})
    put_bundle(one, {"eval": {"alpha": "2.0"}})
    with pytest.raises(IntegrityError, match="none is known to be newer"):
        carry(one, live)
    carry(one, live, replace_scripts=True)
    assert read_manifest(live).scripts["eval"].locks[LINUX].packages["alpha"].version == "2.0"


def test_the_newer_uv_is_kept(tmp_path: Path, live: Path) -> None:
    carry(put_bundle(tmp_path / "one", uv="0.13.10", digests=True), live)
    carry(put_bundle(tmp_path / "two", {"plot": {"gamma": "1.0"}}, uv="0.13.9", digests=True), live)
    assert {uv.version for uv in read_manifest(live).uv.values()} == {"0.13.10"}
    carry(
        put_bundle(tmp_path / "three", {"more": {"delta": "1.0"}}, uv="0.14.0", digests=True), live
    )
    assert {uv.version for uv in read_manifest(live).uv.values()} == {"0.14.0"}
    assert len(list((live / "uv").rglob("uv"))) == 1, "the older ones are removed"


def test_bundles_of_an_earlier_version_merge_and_are_updated(tmp_path: Path, live: Path) -> None:
    """Their locks and uv have no digest in their paths; the content decides."""
    packages = {"alpha": "1.0"}
    carry(put_bundle(tmp_path / "old", {"eval": packages}, uv="0.13.9"), live)
    assert (
        carry(put_bundle(tmp_path / "new", {"eval": packages}, digests=True), live).relation
        == "other"
    )
    locks = read_manifest(live).scripts["eval"].locks
    names = {path.name for path in (live / "locks/eval").iterdir()}
    assert names == {
        locks[LINUX].lock.rpartition("/")[2],
        locks[LINUX].requirements.rpartition("/")[2],
    }
    put_bundle(tmp_path / "old", {"eval": {"alpha": "2.0"}}, uv="0.14.0", digests=True)
    assert not list((tmp_path / "old").glob(f"locks/eval/*{LINUX}.toml"))
    assert verify(tmp_path / "old").ok
