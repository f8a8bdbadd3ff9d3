from __future__ import annotations

import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from offline_bundle.wheelhouse.runtime.bundle.manifest import read_manifest
from offline_bundle.wheelhouse.runtime.bundle.signatures import SignerPolicy
from offline_bundle.wheelhouse.runtime.errors import BundleError, SignatureError
from offline_bundle.wheelhouse.runtime.names import SIGNATURE
from offline_bundle.wheelhouse.signing import sign, signing_with
from offline_bundle.wheelhouse.store.prune import prune
from offline_bundle.wheelhouse.store.verify import verify
from tests.support.archives import small_disk
from tests.support.signing_cases import allowing, check_bundle_signature, make_key, public
from tests.support.writer_cases import Victim

if TYPE_CHECKING:
    from pathlib import Path
from tests.support.prune_cases import NOW, assert_whole, bundle, files_of

__all__ = ["bundle"]


def on_a_disk(bundle: Path, disk: Path) -> Path:
    shutil.copytree(bundle, disk / "bundle")
    return disk / "bundle"


def test_prune_on_a_full_disk_fails_and_changes_nothing(bundle: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "alice")
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        full = on_a_disk(bundle, disk)
        free = shutil.disk_usage(disk).free
        (disk / "filler").write_bytes(bytes(free))
        before = files_of(full)
        for attempt in (
            lambda: prune(full, drop_scripts=["study"], grace=NOW),
            lambda: prune(full, drop_scripts=["study"]),
            lambda: sign(full, str(tmp_path / "alice")),
        ):
            with pytest.raises(BundleError, match="No space left") as caught:
                attempt()
            assert caught.value.exit_code == 1
            assert "free some space" in (caught.value.hint or "")
            assert files_of(full) == before
            assert verify(full).ok
        (disk / "filler").unlink()
        sign(full, str(tmp_path / "alice"))
        prune(full, drop_scripts=["study"], grace=NOW, allow_unsigned=True)
        assert_whole(full)


def test_prune_reports_a_read_only_bundle(bundle: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "alice")
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        fixed = on_a_disk(bundle, disk)
        before = files_of(fixed)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for attempt in (
            lambda: prune(fixed, drop_scripts=["study"], grace=NOW),
            lambda: sign(fixed, str(tmp_path / "alice")),
        ):
            with pytest.raises(BundleError, match="Read-only file system") as caught:
                attempt()
            assert caught.value.exit_code == 1
        assert prune(fixed, drop_scripts=["study"], grace=NOW, is_dry_run=True).removed
        assert files_of(fixed) == before


IMPORTS = """
from datetime import timedelta
from pathlib import Path
from offline_bundle.wheelhouse.store.prune import prune
from offline_bundle.wheelhouse.signing import sign, signing_with
os.fsync = lambda _: None
bundle = Path(sys.argv[1])
"""


PRUNES = """
prune(bundle, drop_scripts=["study"], grace=timedelta(), sign=signing_with(sys.argv[2]))
while True:
    sign(bundle, sys.argv[3])
    sign(bundle, sys.argv[2])
"""


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_prune_or_signing_killed_at_any_moment_can_be_run_again(
    bundle: Path, tmp_path: Path, kills: int
) -> None:
    chance = random.Random(kills)
    keys = [tmp_path / "alice", tmp_path / "bob"]
    for key in keys:
        make_key(key)
    trust = SignerPolicy(allowing(tmp_path, *(f"{key.name} {public(key)}" for key in keys)))
    sign(bundle, str(keys[0]))
    live = tmp_path / "live"
    seen = set()
    with Victim(IMPORTS, PRUNES, live, *keys) as prunes:
        for _ in range(kills):
            shutil.copytree(bundle, live)
            prunes.kill_at_random(chance, within=1.0)
            report = verify(live)
            assert report.ok or report.is_interrupted, report.problems
            assert check_bundle_signature(live, trust).identity in {"alice", "bob"}
            seen.add((read_manifest(live).generation, report.ok))
            dropped = ["study"] if "study" in read_manifest(live).scripts else []
            prune(live, drop_scripts=dropped, grace=NOW, sign=signing_with(str(keys[0])))
            sign(live, str(keys[1]))
            assert_whole(live)
            assert list(read_manifest(live).scripts) == ["eval"]
            assert check_bundle_signature(live, trust).identity == "bob"
            assert {path.name for path in (live / ".writer").iterdir()} == {"lock"}
            shutil.rmtree(live)
    assert kills < 50 or len(seen) > 1  # or else nothing was tested


class TestSigned:
    @pytest.fixture
    def key(self, bundle: Path, tmp_path: Path) -> Path:
        make_key(tmp_path / "alice")
        sign(bundle, str(tmp_path / "alice"))
        return tmp_path / "alice"

    def test_signed_bundle_must_be_signed_again(
        self, bundle: Path, key: Path, tmp_path: Path
    ) -> None:
        before = files_of(bundle)
        with pytest.raises(SignatureError, match="is signed"):
            prune(bundle, drop_scripts=["study"])
        assert files_of(bundle) == before
        prune(bundle, drop_scripts=["study"], sign=signing_with(str(key)))
        assert (
            check_bundle_signature(
                bundle, SignerPolicy(allowing(tmp_path, f"alice {public(key)}"))
            ).identity
            == "alice"
        )

    def test_signature_is_removed_if_allowed(self, bundle: Path, key: Path) -> None:
        del key
        prune(bundle, drop_scripts=["study"], allow_unsigned=True)
        assert not (bundle / SIGNATURE).exists()
        assert_whole(bundle)

    def test_signature_stays_without_changes(self, bundle: Path, key: Path) -> None:
        del key
        assert prune(bundle).changed is False
        assert (bundle / SIGNATURE).exists()
