"""Advisories from text: kept, left out, or refused with a reason; the database around them."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from offline_bundle.wheelhouse.audit.osv import database
from offline_bundle.wheelhouse.audit.osv.advisory import AdvisoryError, decode_advisory
from offline_bundle.wheelhouse.audit.osv.database import Database
from offline_bundle.wheelhouse.audit.osv.severity import Severity, worst
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def document(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    package = {"ecosystem": "PyPI", "name": "alpha"}
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]
    return {"id": "T-1", "affected": [{"package": package, "ranges": ranges}], **changes}


def as_json(**changes: Any) -> bytes:  # noqa: ANN401 - any JSON
    return json.dumps(document(**changes)).encode()


def test_yaml_versions_stay_text() -> None:
    text = b"id: T-1\naffected:\n- package: {ecosystem: PyPI, name: A.b}\n  versions: [1.10, 2]\n"
    [affected] = decode_advisory(text, is_yaml=True).affected
    assert (affected.name, affected.versions) == ("a-b", ("1.10", "2"))


@pytest.mark.parametrize(
    ("content", "is_yaml", "reason"),
    [
        (b"{", False, "not valid JSON"),
        (b"\xff", False, "not valid JSON"),
        (b"[" * 100_000, False, "nested too deeply"),
        (b"id: A\naffected: [&a {ranges: []}, *a, *a]\n", True, "it has an alias"),
        (b"[" * 100_000, True, "nested too deeply"),
        (b"- " * 50_000, True, "nested too deeply"),
        (b"id: [", True, "not valid YAML"),
        (b"&a [*a]", True, "it has an alias"),
        (b"!!python/object/apply:os.getcwd []", True, "not an object"),
        (b"on: push\njobs: {}\n", True, "it has no id"),
        (b'{"id": "T-1"}', False, "no list of affected packages"),
        (as_json(affected=[1]), False, "a list of objects"),
        (as_json(affected=[{"package": {"ecosystem": "PyPI"}}]), False, "no name"),
        (as_json(aliases=[1]), False, "a list of texts"),
    ],
)
def test_a_file_that_is_not_an_advisory_is_refused(
    content: bytes, reason: str, *, is_yaml: bool
) -> None:
    with pytest.raises(AdvisoryError, match=reason):
        decode_advisory(content, is_yaml=is_yaml)


@pytest.mark.parametrize("event", [{"Fixed": "1.0"}, {}])
def test_an_unknown_event_is_refused(event: dict[str, str]) -> None:
    broken = document()
    broken["affected"][0]["ranges"][0]["events"].append(event)
    with pytest.raises(AdvisoryError, match="unknown event"):
        decode_advisory(json.dumps(broken).encode(), is_yaml=False)


@pytest.mark.parametrize(
    ("vector", "score", "word"),
    [
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8, "critical"),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1, "medium"),
        ("CVSS:3.0/AV:L/AC:H/PR:L/UI:R/S:U/C:L/I:N/A:N", 2.2, "low"),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0, "none"),
        ("CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:H/I:H/A:H", 9.9, "critical"),
        ("AV:N/AC:L/Au:N/C:C/I:C/A:C", 10.0, "high"),
        ("AV:N/AC:M/Au:N/C:P/I:N/A:N", 4.3, "medium"),
        ("AV:L/AC:H/Au:M/C:N/I:N/A:P", 0.8, "low"),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 9.3, "critical"),
        ("CVSS:4.0/AV:N/AC:L/AT:P/PR:N/UI:P/VC:N/VI:L/VA:N/SC:N/SI:N/SA:N", 2.3, "low"),
    ],
)
def test_the_score_of_a_vector_of_cvss_2_3_and_4(vector: str, score: float, word: str) -> None:
    assert worst([vector], "LOW") == Severity(word, score, vector)


@pytest.mark.parametrize("vector", ["", "7.5", "CVSS:3.1/AV:N", "CVSS:4.0/AV:N/AC:L", "CVSS:9/A:B"])
def test_a_malformed_vector_has_no_score(vector: str) -> None:
    assert worst([vector], "") == Severity("unknown")


def test_the_worst_of_several_vectors_counts() -> None:
    low, high = "AV:L/AC:H/Au:M/C:N/I:N/A:P", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
    severities = [{"type": "CVSS_V2", "score": low}, {"type": "CVSS_V3", "score": high}]
    advisory = decode_advisory(as_json(severity=severities), is_yaml=False)
    assert worst(advisory.vectors, advisory.word) == Severity("critical", 9.8, high)


def test_the_word_of_the_advisory_is_used_without_a_vector() -> None:
    content = as_json(database_specific={"severity": "MODERATE"})
    advisory = decode_advisory(content, is_yaml=False)
    assert worst(advisory.vectors, advisory.word) == Severity("medium")


CPYTHON = {
    "type": "GIT",
    "repo": "https://github.com/python/cpython",
    "events": [{"introduced": "0"}, {"fixed": "2ada64d2"}],
}


@pytest.mark.parametrize(
    ("entry", "versions", "ranges"),
    [
        ({"ranges": [CPYTHON], "versions": ["v3.12.0", "v3.12.1"]}, ("3.12.0", "3.12.1"), 0),
        ({"ranges": [CPYTHON]}, (), 1),
        (
            {
                "package": {"ecosystem": "Bitnami", "name": "python"},
                "ranges": [
                    {"type": "SEMVER", "events": [{"introduced": "3.12.0"}, {"fixed": "3.12.3"}]}
                ],
            },
            (),
            1,
        ),
    ],
)
def test_advisories_for_cpython_are_kept(
    entry: dict[str, Any], versions: tuple[str, ...], ranges: int
) -> None:
    [affected] = decode_advisory(as_json(affected=[entry]), is_yaml=False).affected
    assert (affected.name, affected.versions, len(affected.ranges)) == ("Python", versions, ranges)


def test_broken_files_are_named_and_the_others_read(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_bytes(as_json())
    (tmp_path / "broken.json").write_bytes(b"{")
    (tmp_path / "README.md").write_text("not an advisory")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "ci.yml").write_text("on: push")
    advisories = Database(tmp_path)
    assert [item.id for item in advisories.read()] == ["T-1"]
    [problem] = advisories.unreadable
    assert problem.startswith("broken.json: not valid JSON")


def test_a_zip_file_is_read_like_a_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("a/good.json", as_json())
        archive.writestr("a/broken.yaml", b"id: [")
    advisories = Database(tmp_path / "all.zip")
    assert [item.id for item in advisories.read()] == ["T-1"]
    assert [problem.partition(":")[0] for problem in advisories.unreadable] == ["a/broken.yaml"]


def test_an_oversized_member_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LARGEST_FILE", 1000)
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.json", b" " * 100_000)
        archive.writestr("good.json", as_json())
    advisories = Database(tmp_path / "all.zip")
    assert len(list(advisories.read())) == 1
    assert advisories.unreadable == ["bomb.json: larger than 1000 B"]


def test_a_zip_bomb_is_named_and_what_came_before_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LARGEST_TOTAL", 5000)
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.json", as_json())
        for number in range(10):
            archive.writestr(f"{number}.json", b" " * 1000)
    advisories = Database(tmp_path / "all.zip")
    assert [item.id for item in advisories.read()] == ["T-1"]
    assert (
        "larger than 4.9 KiB when unpacked; the files from 4.json on" in advisories.unreadable[-1]
    )


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.json", as_json(id="T-2"))
        archive.writestr("damaged.json", as_json(id="T-3"))
    path.write_bytes(path.read_bytes().replace(b'"T-3"', b'"T-4"'))
    advisories = Database(path)
    assert [item.id for item in advisories.read()] == ["T-2"]
    assert advisories.unreadable[0].startswith("damaged.json: Bad CRC-32")


@pytest.mark.parametrize("name", ["missing", "empty", "text.txt"])
def test_a_path_without_advisories_is_an_input_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("text")
    with pytest.raises(InputError):
        list(Database(tmp_path / name).read())
