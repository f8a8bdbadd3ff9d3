"""The command `audit` over real bundles and archives."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.support.archives import LINUX, put_bundle
from tests.support.command_line import call
from tests.support.sarif import sarif_validator

ADVISORIES = Path(__file__).resolve().parents[3] / "data" / "advisories"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return put_bundle(tmp_path / "bundle")


def test_an_open_vulnerability_is_exit_10(bundle: Path) -> None:
    result = call("audit", bundle, "--advisories", ADVISORIES)
    assert result.code == 10, result.text
    title, row = result.out.splitlines()
    assert title.split()[:3] == ["package", "version", "id"]
    assert row.split()[:5] == ["alpha", "1.0", "GHSA-test-0001", "high", "7.5"]
    assert f"eval ({LINUX})" in row
    assert "1 vulnerability" in result.err
    assert "Traceback" not in result.err


def test_json_has_everything(bundle: Path) -> None:
    result = call("audit", bundle, "--advisories", ADVISORIES, "--format", "json")
    assert result.code == 10
    document = json.loads(result.out)
    [finding] = document["vulnerabilities"]
    assert finding["aliases"] == ["CVE-0000-0001", "TEST-2026-1"]
    assert finding["fixed"] == ["1.2", "2.1"]
    assert [use["script"] for use in finding["needed-by"]] == ["eval"]
    assert (document["ok"], document["breaches"]) == (False, None)


def test_an_archive_gives_the_same_result(bundle: Path, tmp_path: Path) -> None:
    archive = tmp_path / "bundle.tar"
    assert call("pack", bundle, "-o", archive).code == 0
    rules = tmp_path / "rules.toml"
    rules.write_text('allowed-licences = ["MIT"]\n')
    options = ("--advisories", ADVISORIES, "--policy", rules, "--format", "json")
    documents = [json.loads(call("audit", path, *options).out) for path in (bundle, archive)]
    assert {document.pop("bundle") for document in documents} == {str(bundle), str(archive)}
    assert documents[0] == documents[1]
    assert [breach["subject"] for breach in documents[0]["breaches"]] == ["alpha 1.0", "beta 1.0"]


def test_sarif_names_the_lock_and_the_level(bundle: Path) -> None:
    result = call("audit", bundle, "--advisories", ADVISORIES, "--format", "sarif")
    document = json.loads(result.out)
    assert document["version"] == "2.1.0"
    [run] = document["runs"]
    [found] = run["results"]
    [location] = found["locations"]
    path = location["physicalLocation"]["artifactLocation"]["uri"]
    assert path == f"locks/eval/pylock.{LINUX}.toml"
    assert found["level"] == "error"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [found["ruleId"]]


@pytest.mark.registry
def test_sarif_is_valid_by_the_schema_of_the_standard(bundle: Path, tmp_path: Path) -> None:
    validator = sarif_validator()
    exceptions, rules = tmp_path / "exceptions.toml", tmp_path / "rules.toml"
    exceptions.write_text('[[exception]]\nid = "CVE-0000-0001"\nreason = "r"\nuntil = 9999-12-31\n')
    rules.write_text('denied-packages = ["beta"]\n')
    options = ["--advisories", ADVISORIES, "--policy", rules, "--format", "sarif"]
    for added in ([], ["--exceptions", exceptions]):
        document = json.loads(call("audit", bundle, *options, *added).out)
        assert [error.message for error in validator.iter_errors(document)] == []
        assert document["runs"][0]["results"]


def test_an_accepted_vulnerability_is_exit_0(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "exceptions.toml"
    text = '[[exception]]\nid = "CVE-0000-0001"\nreason = "unreachable"\nuntil = {}\n'
    file.write_text(text.format("9999-12-31"))
    options = ("--advisories", ADVISORIES, "--exceptions", file)
    result = call("audit", bundle, *options)
    assert result.code == 0, result.text
    assert "accepted until 9999-12-31" in result.err
    sarif = json.loads(call("audit", bundle, *options, "--format", "sarif").out)
    [found] = sarif["runs"][0]["results"]
    assert found["suppressions"] == [{"kind": "external", "justification": "unreachable"}]
    file.write_text(text.format("2026-01-01"))
    result = call("audit", bundle, *options)
    assert result.code == 10
    assert "exception expired on 2026-01-01" in result.err


def test_a_broken_rule_is_exit_10(bundle: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('denied-packages = ["beta"]\n')
    result = call("audit", bundle, "--policy", rules)
    assert result.code == 10
    assert result.out.splitlines()[1].split()[:3] == ["denied-packages", "beta", "1.0"]
    assert "vulnerabilities not checked" in result.err


@pytest.mark.parametrize("is_in_place", [True, False])
def test_unpack_checks_a_difference_together_with_its_base(
    bundle: Path, tmp_path: Path, *, is_in_place: bool
) -> None:
    first, second, place = tmp_path / "one.tar", tmp_path / "two.tar", tmp_path / "place"
    assert call("pack", bundle, "-o", first).code == 0
    put_bundle(bundle, {"eval": {"alpha": "1.0", "beta": "2.0"}})
    assert call("pack", bundle, "-o", second, "--since", first).code == 0
    rules = tmp_path / "rules.toml"
    rules.write_text('denied-licences = ["AGPL-3.0-only"]\n')
    archives = [second, first]
    if is_in_place:
        assert call("unpack", archives.pop(), "-o", place).code == 0
    result = call("unpack", *archives, "-o", place, "--policy", rules)
    assert result.code == 0, result.text
    assert call("verify", place).code == 0


def test_a_broken_advisory_is_exit_5_and_the_others_are_checked(
    bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "advisories"
    folder.mkdir()
    (folder / "broken.json").write_text("{")
    good = ADVISORIES / "vulns" / "TEST-2026-4.json"
    (folder / "good.json").write_bytes(good.read_bytes())
    result = call("audit", bundle, "--advisories", folder)
    assert result.code == 5
    assert "broken.json: not valid JSON" in result.err
    affecting = ADVISORIES / "vulns" / "TEST-2026-1.yaml"
    (folder / "affecting.yaml").write_bytes(affecting.read_bytes())
    result = call("audit", bundle, "--advisories", folder)
    assert result.code == 10
    assert "broken.json: not valid JSON" in result.err


def test_changed_metadata_is_exit_5(bundle: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('allowed-licences = ["MIT"]\n')
    [metadata, *_] = sorted(bundle.glob("wheels/*.metadata"))
    metadata.write_text("Name: alpha\nVersion: 1.0\nLicense-Expression: MIT\n")
    assert call("audit", bundle, "--policy", rules).code == 5


def test_the_rule_for_exceptions_needs_no_advisories(bundle: Path, tmp_path: Path) -> None:
    rules, exceptions = tmp_path / "rules.toml", tmp_path / "exceptions.toml"
    rules.write_text("maximum-exception-days = 30\n")
    exceptions.write_text('[[exception]]\nid = "T-1"\nreason = "r"\nuntil = 9999-12-31\n')
    result = call("audit", bundle, "--policy", rules, "--exceptions", exceptions)
    assert result.code == 10, result.text
    assert result.out.splitlines()[1].split()[:2] == ["maximum-exception-days", "T-1"]


@pytest.mark.parametrize(
    "options", [(), ("--exceptions", "e.toml"), ("--advisories", "missing"), ("--policy", "no")]
)
def test_wrong_usage_is_exit_2(options: tuple[str, ...], bundle: Path) -> None:
    assert call("audit", bundle, *options).code == 2


def test_html_is_the_report_with_the_audit_and_the_changes(bundle: Path, tmp_path: Path) -> None:
    last = put_bundle(tmp_path / "last", {"eval": {"alpha": "0.9"}})
    rules = tmp_path / "rules.toml"
    rules.write_text('denied-packages = ["beta"]\n')
    options = ("--advisories", ADVISORIES, "--policy", rules, "--format", "html")
    result = call("audit", bundle, *options, "--since", last / "bundle.json")
    assert result.code == 10
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", result.out.partition("</style>")[2]))
    for shown in ("1 high", "1 broken", "2 packages changed", "GHSA-test-0001", "denied by beta"):
        assert shown in page
    assert call("audit", bundle, *options, "--since", tmp_path / "none").code == 2
    assert call("audit", bundle, "--advisories", ADVISORIES, "--since", last).code == 2


def test_cyclonedx_is_the_sbom_with_vulnerabilities(bundle: Path) -> None:
    result = call("audit", bundle, "--advisories", ADVISORIES, "--format", "cyclonedx")
    assert result.code == 10
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(result.out) is None
    document = json.loads(result.out)
    [vulnerability] = document["vulnerabilities"]
    assert vulnerability["id"] == "GHSA-test-0001"
    [rating] = vulnerability["ratings"]
    assert (rating["severity"], rating["score"], rating["method"]) == ("high", 7.5, "CVSSv31")
    components = {item["bom-ref"]: item["name"] for item in document["components"]}
    assert [components[item["ref"]] for item in vulnerability["affects"]] == ["alpha"]
