"""`build --audit`, `--osv-server` and `--policy`: checked before anything is written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from offline_bundle.builder.fetch import transfer
from tests.support.command_line import Told, call, write_script
from tests.support.distributions import make_wheel
from tests.support.osv_server import OsvServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.index_server import IndexServer

ENTRY = {
    "id": "PYSEC-2026-1",
    "aliases": ["CVE-2026-1"],
    "summary": "Reads too much",
    "fixed_in": ["1.2", "2.1"],
    "withdrawn": None,
}
EXCEPTION = '[[exception]]\nid = "CVE-2026-1"\nreason = "unreachable"\nuntil = 9999-12-31\n'


def osv(identifier: str, *aliases: str, fixed: str = "2.1") -> dict[str, Any]:
    vector = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
    events = [{"introduced": "0"}, {"fixed": fixed}]
    package = {"ecosystem": "PyPI", "name": "alpha"}
    return {
        "id": identifier,
        "aliases": list(aliases),
        "severity": [{"type": "CVSS_V3", "score": vector}],
        "affected": [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}],
    }


class Builder:
    """Builds a bundle of a script that needs alpha, which needs beta."""

    def __init__(self, folder: Path, index: IndexServer) -> None:
        self.folder, self.index = folder, index
        self.bundle = folder / "bundle"
        self.script = write_script(folder, "alpha")

    def build(self, *options: object) -> Told:
        return call(
            "build", self.script, "-o", self.bundle, "--default-index", self.index.url, "--no-uv",
            "--no-bytecode", *options,
        )  # fmt: skip

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path


@pytest.fixture
def builder(tmp_path: Path, index: IndexServer, packages: Path) -> Builder:
    make_wheel(packages, "alpha", requires=["beta"])
    make_wheel(packages, "beta")
    index.vulnerabilities = {}
    return Builder(tmp_path, index)


def test_a_vulnerability_that_the_index_lists_is_exit_10_and_nothing_is_written(
    builder: Builder,
) -> None:
    assert builder.index.vulnerabilities is not None
    builder.index.vulnerabilities["alpha"] = [ENTRY]
    result = builder.build("--audit")
    assert result.code == 10, result.text
    assert "alpha 1.0: PYSEC-2026-1, unknown, fixed in: 1.2, 2.1" in result.err
    assert "Traceback" not in result.err
    assert not (builder.bundle / "bundle.json").exists()
    assert {request.path for request in builder.index.requests_for("/pypi/*")} == {
        "/pypi/alpha/1.0/json",
        "/pypi/beta/1.0/json",
    }


def test_an_accepted_vulnerability_is_built_and_in_the_sbom(builder: Builder) -> None:
    assert builder.index.vulnerabilities is not None
    builder.index.vulnerabilities["alpha"] = [ENTRY]
    exceptions = builder.file("exceptions.toml", EXCEPTION)
    result = builder.build("--audit", "--exceptions", exceptions)
    assert result.code == 0, result.text
    assert "accepted until 9999-12-31: PYSEC-2026-1 in alpha: unreachable" in result.err
    sbom = (builder.bundle / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom) is None
    document = json.loads(sbom)
    [vulnerability] = document["vulnerabilities"]
    [affected] = vulnerability["affects"]
    assert affected["ref"] in {component["bom-ref"] for component in document["components"]}
    assert vulnerability["analysis"]["detail"].endswith("unreachable")


def test_no_vulnerability_is_told_as_such(builder: Builder) -> None:
    result = builder.build("--audit", "--json")
    assert result.code == 0, result.text
    audit = json.loads(result.out)["audit"]
    assert (audit["ok"], audit["sources"]) == (True, [builder.index.url])
    assert builder.build("--audit").code == 0
    assert "0 vulnerabilities" in builder.build("--audit").err


def test_where_no_server_answers_nothing_was_checked(builder: Builder) -> None:
    builder.index.vulnerabilities = None
    result = builder.build("--audit")
    assert result.code == 0, result.text
    assert "vulnerabilities not checked" in result.err
    assert "not checked: alpha 1.0: http" in result.err
    assert "HTTP 404" in result.err
    assert "0 vulnerabilities" not in result.err
    audit = json.loads(builder.build("--audit", "--json").out)["audit"]
    assert (audit["ok"], audit["advisories"], audit["sources"]) == (False, None, [])


def test_answers_of_an_osv_server_have_pages_and_are_merged_with_the_index(
    builder: Builder,
) -> None:
    assert builder.index.vulnerabilities is not None
    builder.index.vulnerabilities["alpha"] = [ENTRY]
    advisories = [osv("GHSA-aaaa", "CVE-2026-1"), osv("GHSA-bbbb", fixed="3.0")]
    with OsvServer({("alpha", "1.0"): advisories}) as server:
        result = builder.build("--audit", "--osv-server", server.url)
    assert result.code == 10, result.text
    assert "2 vulnerabilities" in result.err
    assert "PYSEC-2026-1, critical 9.8, fixed in: 2.1" in result.err
    assert "GHSA-bbbb, critical 9.8, fixed in: 3.0" in result.err
    assert [
        query.get("page_token") for query in server.queries if query["package"]["name"] == "alpha"
    ] == [None, "1"]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"vulns": 1}', b'{"vulns": [{"id": ""}]}'])
def test_an_osv_server_that_answers_with_something_else_did_not_check(
    body: bytes, builder: Builder
) -> None:
    with OsvServer({}) as server:
        server.body = body
        result = builder.build("--osv-server", server.url)
    assert result.code == 0, result.text
    assert "vulnerabilities not checked" in result.err
    assert not builder.index.requests_for("/pypi/*")


@pytest.mark.parametrize(
    "entry", ["text", {}, {"id": 1}, {**ENTRY, "fixed_in": [1]}, {**ENTRY, "aliases": "CVE-1"}]
)
def test_an_index_that_lists_something_else_did_not_check(entry: object, builder: Builder) -> None:
    assert builder.index.vulnerabilities is not None
    builder.index.vulnerabilities["alpha"] = [cast("Any", entry)]
    result = builder.build("--audit")
    assert result.code == 0, result.text
    assert f"note: not checked: alpha 1.0: {builder.index.url}: " in result.err
    assert "Traceback" not in result.err


def test_a_server_that_cannot_be_reached_is_named(builder: Builder) -> None:
    result = builder.build("--osv-server", "http://127.0.0.1:9")
    assert result.code == 0, result.text
    assert "http://127.0.0.1:9/v1/query: could not reach it" in result.err


def test_the_json_api_gets_the_credentials_of_its_index(builder: Builder) -> None:
    builder.index.username, builder.index.password = "user", "secret"
    url = builder.index.url_with_credentials()
    result = call(
        "build", builder.script, "-o", builder.bundle, "--default-index", url, "--no-uv",
        "--no-bytecode", "--audit",
    )  # fmt: skip
    assert result.code == 0, result.text
    assert "0 vulnerabilities" in result.err
    assert "secret" not in result.text


def test_the_login_of_an_osv_server_is_nowhere(builder: Builder) -> None:
    with OsvServer({}) as server:
        url = server.url.replace("http://", "http://alice:s3cr3t-word@")
        results = [builder.build("--osv-server", url)]
        server.body = b"[]"
        results += [
            builder.build("--osv-server", url),
            builder.build("--osv-server", url, "--json"),
        ]
    assert [result.code for result in results] == [0, 0, 0]
    assert [result.text for result in results if "s3cr3t" in result.text] == []
    files = [path for path in builder.bundle.rglob("*") if path.is_file()]
    assert [path for path in files if b"s3cr3t" in path.read_bytes()] == []


def test_a_server_that_sends_hardly_anything_is_given_up(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SLOWEST", 1e15)
    monkeypatch.setattr(transfer, "SPEED_WINDOW", 0)
    with OsvServer({}) as server:
        result = builder.build("--osv-server", server.url)
    assert "/v1/query: slower than" in result.err


def test_a_broken_rule_is_exit_10_and_nothing_is_written(builder: Builder) -> None:
    rules = builder.file("rules.toml", 'denied-packages = ["beta<2"]\nallowed-licences = ["MIT"]\n')
    result = builder.build("--policy", rules)
    assert result.code == 10, result.text
    assert "beta 1.0: denied-packages: denied by beta<2" in result.err
    assert "alpha 1.0: allowed-licences: it declares no licence" in result.err
    assert not (builder.bundle / "bundle.json").exists()
    assert builder.build("--policy", builder.file("rules.toml", "allow-built = false\n")).code == 0


def test_rules_are_checked_before_anything_is_compiled_and_the_size_also_after(
    builder: Builder,
) -> None:
    rules = builder.file("rules.toml", 'denied-packages = ["beta"]\n')
    options = ("build", builder.script, "-o", builder.bundle, "--default-index", builder.index.url)
    result = call(*options, "--no-uv", "--policy", rules)
    assert result.code == 10, result.text
    assert "Compiling" not in result.err
    assert call(*options, "--no-uv").code == 0
    size = json.loads(call("show", builder.bundle, "--json").out)["size"]
    rules = builder.file("rules.toml", f'maximum-size = "{size // 1024 - 1}K"\n')
    builder.bundle = builder.folder / "other"
    result = call(*options[:3], builder.bundle, *options[4:], "--no-uv", "--policy", rules)
    assert result.code == 10, result.text
    assert "bundle: maximum-size: " in result.err
    assert not (builder.bundle / "bundle.json").exists()


def test_a_bundle_in_place_stays_as_it_is_if_a_rule_is_broken(builder: Builder) -> None:
    assert builder.build().code == 0
    before = (builder.bundle / "bundle.json").read_bytes()
    builder.script = write_script(builder.folder, "alpha", "beta")
    assert builder.build("--policy", builder.file("rules.toml", 'maximum-size = "1K"\n')).code == 10
    assert (builder.bundle / "bundle.json").read_bytes() == before
    assert call("verify", builder.bundle).code == 0


def test_a_faulty_rules_file_is_exit_2_before_anything_is_resolved(builder: Builder) -> None:
    result = builder.build("--policy", builder.file("rules.toml", "alow-built = false\n"))
    assert result.code == 2
    assert "rules.toml: unknown key alow-built" in result.err
    assert not builder.index.requests


def test_locked_audits_an_unchanged_bundle_again_and_check_does_not(builder: Builder) -> None:
    assert builder.build().code == 0
    assert builder.index.vulnerabilities is not None
    builder.index.vulnerabilities["beta"] = [ENTRY]
    result = builder.build("--check", "--audit")
    assert result.code == 0, result.text
    assert "note: --check reviews nothing" in result.err
    result = builder.build("--locked", "--check")
    assert (result.code, result.err.split()[0]) == (0, "Reading"), "nothing is resolved"
    result = builder.build("--locked", "--audit")
    assert result.code == 10, result.text
    assert "beta 1.0: PYSEC-2026-1" in result.err
    exceptions = builder.file("exceptions.toml", EXCEPTION)
    assert builder.build("--locked", "--audit", "--exceptions", exceptions).code == 0
    assert "not reachable" not in (builder.bundle / "report.html").read_text()
    assert "unreachable" in (builder.bundle / "report.html").read_text()
    assert call("verify", builder.bundle).code == 0
    assert builder.build().code == 0
    assert "unreachable" in (builder.bundle / "report.html").read_text()


def test_exceptions_that_nothing_would_read_are_exit_2(builder: Builder) -> None:
    exceptions = builder.file("exceptions.toml", EXCEPTION)
    result = builder.build("--exceptions", exceptions)
    assert result.code == 2
    assert "--exceptions has no effect without an audit" in result.err
    result = call("unpack", "x.tar", "-o", builder.folder / "new", "--exceptions", exceptions)
    assert result.code == 2
    assert "require --policy" in result.err


def test_unpack_checks_the_same_rules_before_it_writes(builder: Builder) -> None:
    assert builder.build().code == 0
    archive, folder = builder.folder / "bundle.tar", builder.folder / "unpacked"
    assert call("pack", builder.bundle, "-o", archive).code == 0
    rules = builder.file("rules.toml", 'allowed-licences = ["MIT"]\n')
    result = call("unpack", archive, "-o", folder, "--policy", rules)
    assert result.code == 10, result.text
    assert "beta 1.0: allowed-licences: it declares no licence" in result.err
    assert not folder.exists()
    rules = builder.file("rules.toml", f'allowed-indexes = ["{builder.index.url}"]\n')
    assert call("unpack", archive, "-o", folder, "--policy", rules).code == 0


def test_unpack_reads_the_licences_of_a_difference_from_the_bundle_in_place(
    builder: Builder, packages: Path
) -> None:
    assert builder.build().code == 0
    folder, difference = builder.folder / "unpacked", builder.folder / "difference.tar"
    assert call("pack", builder.bundle, "-o", builder.folder / "bundle.tar").code == 0
    assert call("unpack", builder.folder / "bundle.tar", "-o", folder).code == 0
    manifest = builder.file("before.json", (builder.bundle / "bundle.json").read_text())
    make_wheel(packages, "gamma")
    builder.script = write_script(builder.folder, "alpha", "gamma")
    assert builder.build().code == 0
    assert call("pack", builder.bundle, "-o", difference, "--since", manifest).code == 0
    rules = builder.file("rules.toml", 'denied-licences = ["MIT"]\n')
    assert call("unpack", difference, "-o", folder, "--policy", rules).code == 0
    assert call("unpack", difference, "-o", builder.folder / "new", "--policy", rules).code == 2
