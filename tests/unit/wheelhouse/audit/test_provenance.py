"""Attestations (PEP 740): real samples and a private Sigstore, verified without a network."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from pypi_attestations import Attestation
from sigstore.verify import policy

from offline_bundle.wheelhouse.audit.provenance import AttestationError, AttestationVerifier
from offline_bundle.wheelhouse.runtime.bundle.manifest import Publisher
from offline_bundle.wheelhouse.runtime.errors import InputError
from tests.support.sigstore_site import SigstoreSite

SAMPLES = Path(__file__).resolve().parents[5] / "shared" / "data" / "attestations"
WHEEL = "rfc8785-0.1.2-py3-none-any.whl"
SDIST = "pypi_attestations-0.0.19.tar.gz"


def sample(name: str) -> bytes:
    path = SAMPLES / name
    if not path.is_file():
        pytest.skip(f"{path.name} is not there: real attestations beside the checkout")
    return path.read_bytes()


def staging_root() -> Path:
    """Sample attestations of wheels are of Sigstore's staging instance."""
    [folder] = [
        item for item in resources.files("sigstore._store").iterdir() if "sigstage" in item.name
    ]
    return Path(str(folder)) / "trusted_root.json"


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


def verify_wheel(attestation: dict[str, Any], content: bytes) -> None:
    """Verify the sample wheel's attestation, which a person signed, not a workflow."""
    AttestationVerifier(staging_root()).verify_one(
        Attestation.model_validate(attestation),
        policy.Identity(identity="william@yossarian.net", issuer="https://github.com/login/oauth"),
        WHEEL,
        hashlib.sha256(content).hexdigest(),
    )


@pytest.mark.usefixtures("no_sockets")
def test_the_real_wheel_and_its_attestation_verify() -> None:
    verify_wheel(json.loads(sample(f"{WHEEL}.publish.attestation")), sample(WHEEL))


@pytest.mark.usefixtures("no_sockets")
def test_a_changed_byte_in_the_real_wheel_is_refused() -> None:
    attestation, content = json.loads(sample(f"{WHEEL}.publish.attestation")), sample(WHEEL)
    for position in (0, len(content) // 2, len(content) - 1):
        changed = bytearray(content)
        changed[position] ^= 1
        with pytest.raises(AttestationError, match="another sha256"):
            verify_wheel(attestation, bytes(changed))


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize(
    "keys", [("verification_material", "certificate"), ("envelope", "statement"), ("envelope", "signature")]
)  # fmt: skip
def test_a_changed_byte_in_the_real_attestation_is_refused(keys: tuple[str, str]) -> None:
    attestation, content = json.loads(sample(f"{WHEEL}.publish.attestation")), sample(WHEEL)
    part = base64.b64decode(attestation[keys[0]][keys[1]])
    for position in range(0, len(part), max(1, len(part) // 40)):
        changed = bytearray(part)
        changed[position] ^= 1
        attestation[keys[0]][keys[1]] = base64.b64encode(changed).decode()
        with pytest.raises(Exception):  # noqa: B017, PT011 - of one of four libraries
            verify_wheel(attestation, content)


@pytest.mark.usefixtures("no_sockets")
def test_the_real_provenance_of_an_index_names_its_workflow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = sample(f"{SDIST}.provenance")
    # The sample is of a source distribution; bundles have wheels only.
    monkeypatch.setattr("offline_bundle.wheelhouse.audit.provenance.parse_wheel_filename", str)
    digest = "9bb1add04b1b4e182be6b0b80931593f7a291eb49d69b4fd728a5d4cbcdc4bd3"
    publisher = AttestationVerifier().verify(content, SDIST, digest)
    assert publisher == Publisher("GitHub", "trailofbits/pypi-attestations", "release.yml")
    assert str(publisher) == "GitHub trailofbits/pypi-attestations (release.yml)"
    with pytest.raises(AttestationError, match="another sha256"):
        AttestationVerifier().verify(content, SDIST, "0" * 64)
    document = json.loads(content)
    document["attestation_bundles"][0]["publisher"]["workflow"] = "other.yml"
    with pytest.raises(AttestationError):
        AttestationVerifier().verify(json.dumps(document).encode(), SDIST, digest)


class Site:
    """A private Sigstore, a wheel, and its provenance."""

    def __init__(self, folder: Path) -> None:
        self.sigstore = SigstoreSite()
        self.wheel = folder / "demo-1.0-py3-none-any.whl"
        self.wheel.write_bytes(b"a wheel")
        self.sha256 = hashlib.sha256(b"a wheel").hexdigest()
        self.root = self.sigstore.write_trusted_root(folder / "trusted_root.json")
        self.verifier = AttestationVerifier(self.root)

    def verify(self, document: object) -> Publisher:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.verifier.verify(content, self.wheel.name, self.sha256)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.usefixtures("no_sockets")
def test_a_private_sigstore_is_trusted_by_its_root_only(site: Site) -> None:
    document = site.sigstore.provenance(site.wheel)
    assert site.verify(document) == Publisher("GitHub", "example/project", "release.yml")
    with pytest.raises(AttestationError):
        site.verify(SigstoreSite().provenance(site.wheel))
    with pytest.raises(AttestationError):
        AttestationVerifier().verify(json.dumps(document).encode(), site.wheel.name, site.sha256)


def test_another_publisher_than_the_index_names_is_refused(site: Site) -> None:
    with pytest.raises(AttestationError):
        site.verify(site.sigstore.provenance(site.wheel, named="evil/project"))


def test_a_statement_about_another_file_is_refused(site: Site) -> None:
    other = site.sigstore.provenance(site.wheel, subject="demo-1.1-py3-none-any.whl")
    with pytest.raises(AttestationError, match=r"about demo-1\.1"):
        site.verify(other)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"version": 1, "attestation_bundles": []}',
        b'{"version": 2, "attestation_bundles": []}',
        b"[" * 100_000,
    ],
)
def test_what_is_not_a_provenance_is_refused(content: bytes, site: Site) -> None:
    with pytest.raises(AttestationError):
        site.verify(content)


def test_a_bundle_without_attestations_is_refused(site: Site) -> None:
    document = site.sigstore.provenance(site.wheel)
    document["attestation_bundles"][0]["attestations"] = []
    with pytest.raises(AttestationError, match="no attestation"):
        site.verify(document)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"tlogs": []}'])
def test_what_is_not_a_trusted_root_is_an_input_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "trusted_root.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a trusted root"):
        AttestationVerifier(path)
    with pytest.raises(InputError, match="not a trusted root"):
        AttestationVerifier(tmp_path / "missing.json")
