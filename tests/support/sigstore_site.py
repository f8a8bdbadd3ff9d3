"""A private Sigstore on paper: its trusted root, and attestations that verify against it.

    site = SigstoreSite()
    site.write_trusted_root(tmp_path / "trusted_root.json")
    document = site.provenance(wheel)           # PEP 740, as an index serves it

A certificate authority, a certificate log and a transparency log, each as one key. The verifier is
the real one: what is signed here has every part that it checks.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from pypi_attestations import AttestationType

if TYPE_CHECKING:
    from pathlib import Path

_START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_SIGNED = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
_END = dt.datetime(2036, 1, 1, tzinfo=dt.UTC)
_FULCIO = "1.3.6.1.4.1.57264.1"
_SCT_LIST = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_ORIGIN = "rekor.test"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"


class SigstoreSite:
    """One Sigstore deployment; two of them do not trust each other."""

    def __init__(self) -> None:
        self._authority_key, self._log_key, self._certificate_log_key = (
            ec.generate_private_key(ec.SECP256R1()) for _ in range(3)
        )
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        key = self._authority_key.public_key()
        self._authority = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key)
            .serial_number(1)
            .not_valid_before(_START)
            .not_valid_after(_END)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(is_authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .sign(self._authority_key, hashes.SHA256())
        )

    def write_trusted_root(self, path: Path) -> Path:
        """Write what a verifier of this site needs."""
        validity = {"start": _text(_START)}
        path.write_text(
            json.dumps(
                {
                    "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                    "tlogs": [_log(self._log_key, validity)],
                    "ctlogs": [_log(self._certificate_log_key, validity)],
                    "certificateAuthorities": [
                        {
                            "subject": {"organization": "tests", "commonName": "tests"},
                            "uri": "https://fulcio.test",
                            "certChain": {
                                "certificates": [{"rawBytes": _base64(_der(self._authority))}]
                            },
                            "validFor": validity,
                        }
                    ],
                    "timestampAuthorities": [],
                }
            )
        )
        return path

    def provenance(
        self,
        file: Path,
        *,
        repository: str = "example/project",
        workflow: str = "release.yml",
        named: str | None = None,
        subject: str | None = None,
    ) -> dict[str, Any]:
        """Return the provenance of *file*, built by *workflow* of *repository*.

        *named* is another repository that the index names; *subject* another file name.
        """
        statement = json.dumps(
            {
                "_type": "https://in-toto.io/Statement/v1",
                "subject": [
                    {
                        "name": subject or file.name,
                        "digest": {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
                    }
                ],
                "predicateType": AttestationType.PYPI_PUBLISH_V1.value,
                "predicate": None,
            }
        ).encode()
        publisher = {
            "kind": "GitHub",
            "repository": named or repository,
            "workflow": workflow,
            "environment": None,
            "claims": None,
        }
        attestation = self._attest(statement, repository, workflow)
        return {
            "version": 1,
            "attestation_bundles": [{"publisher": publisher, "attestations": [attestation]}],
        }

    def _attest(self, statement: bytes, repository: str, workflow: str) -> dict[str, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(key, repository, workflow)
        kind = _PAYLOAD_TYPE.encode()
        signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(statement), statement)
        signature = key.sign(signed, ec.ECDSA(hashes.SHA256()))
        return {
            "version": 1,
            "verification_material": {
                "certificate": _base64(_der(certificate)),
                "transparency_entries": [self._log_entry(statement, signature, certificate)],
            },
            "envelope": {"statement": _base64(statement), "signature": _base64(signature)},
        }

    def _certificate(
        self, key: ec.EllipticCurvePrivateKey, repository: str, workflow: str
    ) -> x509.Certificate:
        """Issue a certificate as Fulcio does, with the receipt of the certificate log in it."""
        source = f"https://github.com/{repository}"
        identity = f"{source}/.github/workflows/{workflow}@refs/tags/v1"
        claims = {
            8: "https://token.actions.githubusercontent.com",
            12: source,
            13: "0" * 40,
            14: "refs/tags/v1",
            18: identity,
        }
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_SIGNED - dt.timedelta(minutes=1))
            .not_valid_after(_SIGNED + dt.timedelta(minutes=9))
            .add_extension(_key_usage(is_authority=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    self._authority_key.public_key()
                ),
                critical=False,
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]),
                critical=True,
            )
        )
        for number, text in claims.items():
            oid = ObjectIdentifier(f"{_FULCIO}.{number}")
            extension = x509.UnrecognizedExtension(oid, _utf8_string(text))
            builder = builder.add_extension(extension, critical=False)
        # RFC 6962, 3.2: the log signs the certificate without its own receipt.
        precertificate = builder.sign(self._authority_key, hashes.SHA256())
        receipt = self._receipt(precertificate.tbs_certificate_bytes)
        extension = x509.UnrecognizedExtension(_SCT_LIST, _octet_string(receipt))
        return builder.add_extension(extension, critical=False).sign(
            self._authority_key, hashes.SHA256()
        )

    def _receipt(self, certificate: bytes) -> bytes:
        time = int(_SIGNED.timestamp() * 1000).to_bytes(8, "big")
        issuer = hashlib.sha256(_public(self._authority_key)).digest()
        signed = b"".join(
            [b"\0\0", time, b"\0\1", issuer, len(certificate).to_bytes(3, "big"), certificate]
        )
        key = self._certificate_log_key
        signature = key.sign(signed + b"\0\0", ec.ECDSA(hashes.SHA256()))
        receipt = b"".join(
            [b"\0", _key_id(key), time, b"\0\0\4\3", len(signature).to_bytes(2, "big"), signature]
        )
        sized = len(receipt).to_bytes(2, "big") + receipt
        return len(sized).to_bytes(2, "big") + sized

    def _log_entry(
        self, statement: bytes, signature: bytes, certificate: x509.Certificate
    ) -> dict[str, Any]:
        """Return the entry in a transparency log that has this entry only."""
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        body = _canonical(
            {
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": {"algorithm": "sha256", "value": "0" * 64},
                    "payloadHash": {
                        "algorithm": "sha256",
                        "value": hashlib.sha256(statement).hexdigest(),
                    },
                    "signatures": [{"signature": _base64(signature), "verifier": _base64(pem)}],
                },
            }
        )
        root = hashlib.sha256(b"\0" + body).digest()
        seconds = int(_SIGNED.timestamp())
        promise = _canonical(
            {
                "body": _base64(body),
                "integratedTime": seconds,
                "logID": _key_id(self._log_key).hex(),
                "logIndex": 0,
            }
        )
        note = f"{_ORIGIN}\n1\n{_base64(root)}\n"
        note_signature = _key_id(self._log_key)[:4] + self._sign(note.encode())
        return {
            "logIndex": "0",
            "logId": {"keyId": _base64(_key_id(self._log_key))},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(seconds),
            "inclusionPromise": {"signedEntryTimestamp": _base64(self._sign(promise))},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": _base64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {
                    "envelope": f"{note}\n\N{EM DASH} {_ORIGIN} {_base64(note_signature)}\n"
                },
            },
            "canonicalizedBody": _base64(body),
        }

    def _sign(self, data: bytes) -> bytes:
        return self._log_key.sign(data, ec.ECDSA(hashes.SHA256()))


def _log(key: ec.EllipticCurvePrivateKey, validity: dict[str, str]) -> dict[str, Any]:
    return {
        "baseUrl": "https://log.test",
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": _base64(_public(key)),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": validity,
        },
        "logId": {"keyId": _base64(_key_id(key))},
    }


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(_public(key)).digest()


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _utf8_string(text: str) -> bytes:
    content = text.encode()
    return bytes([0x0C, len(content)]) + content


def _octet_string(content: bytes) -> bytes:
    size = bytes([len(content)]) if len(content) < 128 else bytes([0x81, len(content)])
    return b"\4" + size + content


def _canonical(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _text(time: dt.datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
