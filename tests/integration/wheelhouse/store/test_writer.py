from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.errors import BundleError
from offline_bundle.wheelhouse.store.verify import verify
from tests.support.archives import no_fsync, put_bundle, small_disk, tree
from tests.support.writer_cases import NEW, OLD, Victim, is_whole

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["no_fsync"]


def test_commit_on_a_full_disk_fails_and_changes_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_500_000) as disk:
        bundle = put_bundle(disk / "bundle", {"eval": OLD})
        before = tree(bundle)
        with pytest.raises(BundleError) as caught:
            put_bundle(bundle, {"eval": NEW}, wheel_size=100_000)
        assert caught.value.exit_code == 1
        assert "No space left" in caught.value.message
        assert "the bundle in place is unchanged" in (caught.value.hint or "")
        assert tree(bundle) == before
        assert is_whole(bundle)


def test_writer_reports_a_read_only_destination(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        bundle = put_bundle(disk / "bundle")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(BundleError, match="Read-only file system") as caught:
            put_bundle(bundle, {"eval": NEW})
        assert caught.value.exit_code == 1
        assert is_whole(bundle)


IMPORTS = """
os.fsync = lambda _: None
from pathlib import Path
from tests.support.archives import put_bundle
from tests.support.writer_cases import NEW, OLD
"""


BUILDS = """
while True:
    put_bundle(Path(sys.argv[1]), {"eval": NEW}, text="two")
    put_bundle(Path(sys.argv[1]), {"eval": OLD}, text="one")
"""


@pytest.mark.parametrize("kills", [15, pytest.param(100, marks=pytest.mark.slow)])
def test_commit_killed_at_any_moment_leaves_the_old_or_the_new_bundle(
    tmp_path: Path, kills: int
) -> None:
    chance = random.Random(kills)
    bundle = put_bundle(tmp_path / "bundle", {"eval": OLD}, text="one")
    wanted = {  # made of the same, in a folder of its own
        text: tree(put_bundle(tmp_path / text, {"eval": packages}, text=text))
        for text, packages in (("one", OLD), ("two", NEW))
    }
    interrupted = 0
    with Victim(IMPORTS, BUILDS, bundle) as builds:
        for _ in range(kills):
            builds.kill_at_random(chance)
            report = verify(bundle)
            assert report.ok or report.is_interrupted, report.problems
            interrupted += report.is_interrupted
            text = chance.choice(["one", "two"])
            put_bundle(bundle, {"eval": OLD if text == "one" else NEW}, text=text)
            assert is_whole(bundle)
            found = tree(bundle)
            for name in ("bundle.json", "SHA256SUMS"):  # these have the generation
                del found[name]
            assert found == {
                path: content for path, content in wanted[text].items() if path in found
            }
            assert len(found) == len(wanted[text]) - 2
            assert sorted(path.name for path in (bundle / ".writer").iterdir()) == ["lock"]
    assert kills < 50 or interrupted  # or else nothing was tested
