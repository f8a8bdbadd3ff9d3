"""Attestations from the index into the bundle, and verified again on the other side."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from offline_bundle.runner.network import no_network_command
from tests.support.archives import tree
from tests.support.command_line import Told, call, read_bundle, write_script
from tests.support.distributions import make_wheel
from tests.support.sigstore_site import SigstoreSite

if TYPE_CHECKING:
    from tests.support.index_server import IndexServer

ROOT = Path(__file__).resolve().parents[4]
ALPHA, BETA = "wheels/alpha-1.0-py3-none-any.whl", "wheels/beta-1.0-py3-none-any.whl"
PUBLISHER = {"kind": "GitHub", "name": "example/project", "workflow": "release.yml"}


class Site:
    """An index where alpha has an attestation and beta has none, and a private Sigstore."""

    def __init__(self, folder: Path, index: IndexServer, packages: Path) -> None:
        self.folder, self.index = folder, index
        self.bundle = folder / "bundle"
        self.sigstore = SigstoreSite()
        self.root = self.sigstore.write_trusted_root(folder / "trusted_root.json")
        self.alpha = make_wheel(packages, "alpha", requires=["beta"])
        self.script = write_script(folder, "alpha")
        make_wheel(packages, "beta")
        self.attest()

    def attest(self, **changes: str) -> None:
        document = self.sigstore.provenance(self.alpha, **changes)
        self.index.provenance[self.alpha.name] = json.dumps(document).encode()

    def build(self, *options: object) -> Told:
        return call(
            "build", self.script, "-o", self.bundle, "--default-index", self.index.url, "--no-uv",
            "--no-bytecode", "--trusted-root", self.root, *options,
        )  # fmt: skip

    def show(self, *options: object) -> Told:
        return call("show", self.bundle, "--trusted-root", self.root, *options)

    def audit(self, *options: object) -> Told:
        rules = self.folder / "no-builds.toml"
        rules.write_text("allow-built = false\n")
        return call("audit", self.bundle, "--policy", rules, "--trusted-root", self.root, *options)

    def verify(self, *options: object) -> Told:
        return call("verify", self.bundle, "--trusted-root", self.root, *options)

    def forge(self, path: str, content: bytes) -> None:
        """Change a file, and list it in the manifest as it is now."""
        (self.bundle / path).write_bytes(content)
        manifest = read_bundle(self.bundle)
        sha256 = hashlib.sha256(content).hexdigest()
        manifest["files"][path] |= {"sha256": sha256, "size": len(content)}
        manifest["files"].pop("SHA256SUMS", None)
        (self.bundle / "SHA256SUMS").unlink(missing_ok=True)
        (self.bundle / "bundle.json").write_text(json.dumps(manifest))


@pytest.fixture
def site(tmp_path: Path, index: IndexServer, packages: Path) -> Site:
    return Site(tmp_path, index, packages)


def test_the_manifest_names_the_publisher_and_verify_checks_it_without_the_index(
    site: Site, index: IndexServer
) -> None:
    result = site.build("--attestations")
    assert result.code == 0, result.text
    files = read_bundle(site.bundle)["files"]
    assert files[ALPHA]["publisher"] == PUBLISHER
    assert "publisher" not in files[BETA]
    provenance = site.bundle / f"{ALPHA}.provenance"
    assert provenance.read_bytes() == index.provenance[site.alpha.name]
    sbom = json.loads((site.bundle / "sbom.cdx.json").read_text())
    publishers = {item["name"]: item.get("publisher") for item in sbom["components"]}
    assert publishers["alpha"] == "GitHub example/project (release.yml)"
    assert publishers["beta"] is None
    requests = len(index.requests)
    result = site.verify()
    assert result.code == 0, result.text
    assert "The attestations of 1 wheel are valid." in result.err
    document = json.loads(site.verify("--json").out)["attestations"]
    assert document.pop("unverified") is None
    assert document == {"verified": {ALPHA: PUBLISHER}, "wrong": {}, "absent": [BETA]}
    assert len(index.requests) == requests


def test_show_and_audit_verify_attestations_too(site: Site) -> None:
    assert site.build("--attestations").code == 0
    shown = site.show()
    assert shown.code == 0, shown.text
    assert "verified: GitHub example/project (release.yml)" in shown.out
    assert "absent" in shown.out
    page = site.audit("--format", "html")
    assert page.code == 0, page.text
    assert "The publishers that attestations name, verified with this audit." in page.out
    assert "1 of 2 wheels attested" in page.out
    document = json.loads(site.audit("--format", "json").out)
    assert document["attestations"]["verified"] == {ALPHA: PUBLISHER}


def test_show_and_audit_name_an_attestation_that_does_not_hold(site: Site) -> None:
    assert site.build("--attestations").code == 0
    site.root = SigstoreSite().write_trusted_root(site.root)
    shown = site.show("--json")
    assert shown.code == 5, shown.text
    states = {item["name"]: item["attestation"] for item in json.loads(shown.out)["packages"]}
    assert states == {"alpha": "wrong", "beta": "absent"}
    assert json.loads(shown.out)["error"]["code"] == 5
    assert site.show().code == 5
    page = site.audit("--format", "html")
    assert page.code == 5, page.text
    assert '<span class="badge bad">1 wrong</span>' in page.out
    assert f"{ALPHA}: " in page.err
    assert json.loads(site.audit("--format", "json").out)["ok"] is False


def test_without_the_extra_show_and_audit_say_that_nothing_was_verified(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert site.build("--attestations").code == 0
    monkeypatch.setitem(sys.modules, "pypi_attestations", None)
    assert "not verified: GitHub example/project" in call("show", site.bundle).out
    rules = site.folder / "rules.toml"
    rules.write_text("allow-built = false\n")
    page = call("audit", site.bundle, "--policy", rules, "--format", "html")
    assert page.code == 0, page.text
    assert "not verified again" in page.out


def test_a_rebuild_without_the_option_keeps_the_attestations(
    site: Site, index: IndexServer
) -> None:
    assert site.build("--attestations").code == 0
    before = tree(site.bundle)
    index.requests.clear()
    assert site.build("--attestations").code == 0
    assert (
        call(
            "build",
            site.script,
            "-o",
            site.bundle,
            "--default-index",
            index.url,
            "--no-uv",
            "--no-bytecode",
        ).code
        == 0
    )
    assert tree(site.bundle) == before
    assert not index.requests_for("/provenance/*")


@pytest.mark.parametrize("options", [(), ("--locked",)])
def test_a_missing_provenance_is_fetched_again(options: tuple[str, ...], site: Site) -> None:
    assert site.build("--attestations").code == 0
    before = tree(site.bundle)
    (site.bundle / f"{ALPHA}.provenance").unlink()
    assert site.verify().code == 5
    result = site.build(*options)
    assert result.code == 0, result.text
    assert tree(site.bundle) == before


def test_without_the_option_nothing_is_fetched(site: Site, index: IndexServer) -> None:
    assert site.build().code == 0
    assert not index.requests_for("/provenance/*")
    assert site.verify().code == 0
    result = site.verify("--require-attestations", "alpha")
    assert result.code == 5
    assert f"{ALPHA}: no attestation, and one is required" in result.err


@pytest.mark.parametrize(
    "changes", [{"named": "evil/project"}, {"subject": "alpha-2.0-py3-none-any.whl"}]
)
def test_an_attestation_that_does_not_hold_is_exit_5_and_nothing_is_written(
    changes: dict[str, str], site: Site
) -> None:
    site.attest(**changes)
    result = site.build("--attestations")
    assert result.code == 5, result.text
    assert "the index offers 1 attestation that cannot be valid" in result.err
    assert "alpha-1.0-py3-none-any.whl: " in result.err
    assert "Traceback" not in result.err
    assert not (site.bundle / "bundle.json").exists()


def test_an_attestation_by_another_sigstore_is_exit_5(site: Site) -> None:
    site.root = SigstoreSite().write_trusted_root(site.root)
    assert site.build("--attestations").code == 5


def test_a_required_attestation_that_is_absent_is_exit_5(site: Site) -> None:
    assert site.build("--require-attestations", "Alpha").code == 0
    result = site.build("--require-attestations", ":all:")
    assert result.code == 5, result.text
    assert "beta-1.0-py3-none-any.whl" in result.err


def test_a_required_attestation_that_cannot_be_fetched_is_exit_4(
    site: Site, index: IndexServer
) -> None:
    from tests.support.index_server import Fault

    index.fault("/provenance/*", Fault.status(503))
    result = site.build("--require-attestations", "alpha")
    assert result.code == 4, result.text
    assert "HTTP 503" in result.err
    result = site.build("--attestations")
    assert result.code == 0, result.text
    assert f"note: attestation of {ALPHA}: " in result.err


def test_an_index_without_json_pages_names_no_attestation(site: Site, index: IndexServer) -> None:
    index.api = "html"
    assert site.build("--attestations").code == 0
    assert site.build("--require-attestations", "alpha").code == 5


def test_a_changed_byte_is_exit_5_also_if_the_manifest_lists_it(site: Site) -> None:
    assert site.build("--attestations").code == 0
    provenance = site.bundle / f"{ALPHA}.provenance"
    content = provenance.read_bytes()
    position = content.index(b'"signature": "') + 40
    changed = bytearray(content)
    changed[position] ^= 1
    provenance.write_bytes(changed)
    assert site.verify().code == 5
    site.forge(f"{ALPHA}.provenance", bytes(changed))
    result = site.verify()
    assert result.code == 5, result.text
    assert f"{ALPHA}: " in result.err
    assert json.loads(site.verify("--json").out)["ok"] is False


def test_a_changed_wheel_that_the_manifest_lists_is_exit_5(site: Site) -> None:
    assert site.build("--attestations").code == 0
    site.forge(ALPHA, (site.bundle / ALPHA).read_bytes() + b"x")
    result = site.verify()
    assert result.code == 5, result.text
    assert "another sha256" in result.err


def test_another_publisher_in_the_manifest_is_exit_5(site: Site) -> None:
    assert site.build("--attestations").code == 0
    manifest = read_bundle(site.bundle)
    manifest["files"][ALPHA]["publisher"]["name"] = "example/other"
    (site.bundle / "bundle.json").write_text(json.dumps(manifest))
    site.forge(f"{ALPHA}.provenance", (site.bundle / f"{ALPHA}.provenance").read_bytes())
    result = site.verify()
    assert result.code == 5, result.text
    assert "but the manifest names GitHub example/other" in result.err


def test_an_archive_carries_attestations_and_unpack_checks_them(site: Site) -> None:
    assert site.build("--attestations").code == 0
    archive, folder = site.folder / "bundle.tar", site.folder / "unpacked"
    assert call("pack", site.bundle, "-o", archive).code == 0
    result = call("verify", archive, "--trusted-root", site.root)
    assert result.code == 0, result.text
    assert "The attestations of 1 wheel are valid." in result.err
    rules = site.folder / "rules.toml"
    rules.write_text('required-attestations = [":all:"]\n')
    options = ("--policy", rules, "--trusted-root", site.root)
    result = call("unpack", archive, "-o", folder, *options)
    assert result.code == 10, result.text
    assert "beta 1.0: required-attestations: it has no attestation" in result.err
    assert not folder.exists()
    rules.write_text('required-attestations = ["alpha"]\n')
    assert call("unpack", archive, "-o", folder, *options).code == 0
    assert call("audit", folder, *options).code == 0
    assert call("audit", folder, "--policy", rules).code == 5  # not of the public Sigstore


def test_a_rule_fetches_what_it_requires(site: Site) -> None:
    rules = site.folder / "rules.toml"
    rules.write_text('required-attestations = ["alpha"]\n')
    result = site.build("--policy", rules)
    assert result.code == 0, result.text
    assert read_bundle(site.bundle)["files"][ALPHA]["publisher"] == PUBLISHER
    rules.write_text('required-attestations = [":all:"]\n')
    assert site.build("--policy", rules).code == 10


def test_without_the_extra_the_option_is_exit_2_and_verify_prints_a_note(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert site.build("--attestations").code == 0
    monkeypatch.setitem(sys.modules, "pypi_attestations", None)
    result = site.build("--attestations")
    assert result.code == 2
    assert "'.[attestations]'" in result.err
    result = call("verify", site.bundle)
    assert result.code == 0, result.text
    assert "the attestations of 1 wheel were not verified" in result.err
    assert call("verify", site.bundle, "--require-attestations", ":all:").code == 2


def test_prune_and_merge_keep_attestations(site: Site, packages: Path, index: IndexServer) -> None:
    plain = site.folder / "plain"
    make_wheel(packages, "gamma")
    script = write_script(site.folder, "alpha", "gamma", name="other")
    assert (
        call(
            "build", script, "-o", plain, "--default-index", index.url, "--no-uv", "--no-bytecode"
        ).code
        == 0
    )
    assert site.build("--attestations").code == 0
    archive = site.folder / "bundle.tar"
    assert call("pack", site.bundle, "-o", archive).code == 0
    assert call("unpack", archive, "-o", plain).code == 0
    assert call("prune", plain, "--drop-script", "other", "--grace", "0").code == 0
    result = call("verify", plain, "--trusted-root", site.root, "--require-attestations", "alpha")
    assert result.code == 0, result.text
    assert not (plain / "wheels" / "gamma-1.0-py3-none-any.whl").exists()
    assert call("prune", plain, "--drop-script", "job").code == 2


@pytest.mark.no_network
def test_attestations_verify_with_the_network_cut(site: Site) -> None:
    assert site.build("--attestations").code == 0
    command = ["-m", "offline_bundle", "verify", site.bundle, "--trusted-root", site.root]
    done = _run_without_network(*command)
    assert done.returncode == 0, done.stderr
    assert "The attestations of 1 wheel are valid." in done.stderr


@pytest.mark.no_network
def test_the_real_attestations_verify_with_the_network_cut() -> None:
    tests = "tests/unit/wheelhouse/audit/test_provenance.py"
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "real", tests]
    done = _run_without_network(*command)
    assert done.returncode == 0, done.stdout


def _run_without_network(*words: object) -> subprocess.CompletedProcess[str]:
    command = no_network_command([sys.executable, *map(str, words)])
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
