"""Names from a server never become paths outside the results folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from offline_bundle.runner.engines.hps.local_paths import folder_names, local_path
from offline_bundle.runner.engines.hps.results import _place
from offline_bundle.runner.engines.hps.stored_files import StoredFile

ROOT = Path("/results/job-1")
NAMES = st.one_of(
    st.text(st.characters(exclude_categories=())),
    st.lists(st.sampled_from(["..", ".", "a", "", "/", "\\", "C:", "~", "\x00", "x" * 300])).map(
        "/".join
    ),
)


@given(NAMES)
@example("/etc/passwd")
@example("../../.ssh/authorized_keys")
@example("a/../../b")
@example("..\\..\\x")
@example("C:\\x")
@example("\ud800")
@example("d/" * 3000 + "d")
@example("")
def test_local_path_stays_in_its_folder(name: str) -> None:
    path = local_path(ROOT, name)
    assert path != ROOT
    assert Path(os.path.normpath(path)).is_relative_to(ROOT)
    assert len(os.fsencode(path)) < os.pathconf("/", "PC_PATH_MAX")
    assert all(len(os.fsencode(part)) <= 255 - len(".….part".encode()) for part in path.parts)


@given(st.lists(st.tuples(NAMES, NAMES), unique_by=lambda job: job[0]))
def test_folder_names_are_single_unique_parts(jobs: list[tuple[str, str]]) -> None:
    folders = folder_names(jobs)
    assert len({folder.lower() for folder in folders.values()}) == len(jobs)
    for folder in folders.values():
        assert folder == Path(folder).name
        assert folder not in {"", ".", ".."}
        os.fsencode(folder)


@pytest.mark.parametrize("hostile", ["/tmp/evil", "../../evil", "/etc/cron.d/evil"])
def test_identifiers_of_files_and_jobs_are_no_paths(hostile: str, tmp_path: Path) -> None:
    file = StoredFile(hostile, hostile, hostile, size=1, checksum=None)
    placed = _place(tmp_path, folder_names([(hostile, hostile)]), {hostile: [file, file]})
    targets = [target for pairs in placed.values() for _, target in pairs]
    assert len(set(targets)) == 2
    assert all(Path(os.path.normpath(target)).is_relative_to(tmp_path) for target in targets)


@given(st.lists(st.sampled_from(["a", "./a", "a//b", "a/b", "2-a", "3-a", "4-2-a", "a/2-b"])))
def test_each_file_has_a_path_of_its_own(names: list[str]) -> None:
    files = [StoredFile(name, name, name, size=1, checksum=None) for name in names]
    placed = _place(ROOT, {"1": "job"}, {"1": sorted(files, key=lambda file: file.path)})
    assert len({target for pairs in placed.values() for _, target in pairs}) == len(names)
