"""Attestations of wheels (PEP 740): which publisher built which file, verified without a network.

    verifier = AttestationVerifier()
    verifier.verify(content, "demo-1.0-py3-none-any.whl", sha256)       # Publisher("GitHub", ...)

The provenance of a wheel is a file of the bundle beside it, as the index served it. Checked are the
certificate chain, the receipt of the certificate log, the entry of the transparency log, the
signature, the publisher, and that the statement is about exactly this file. The keys for that are
those of the public Sigstore in the installed package `sigstore`, or of a `trusted_root.json`.

Needs the extra `attestations`. Importing sigstore takes a third of a second.
"""

from __future__ import annotations

import json
from importlib import import_module, resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.utils import parse_wheel_filename

from offline_bundle.wheelhouse.audit.subject import Reader, read_files
from offline_bundle.wheelhouse.derived.audit_result import Provenance
from offline_bundle.wheelhouse.derived.package_names import includes
from offline_bundle.wheelhouse.derived.wheel_metadata import wheel_paths
from offline_bundle.wheelhouse.runtime.bundle.manifest import Manifest, Publisher
from offline_bundle.wheelhouse.runtime.errors import InputError, IntegrityError, first_problems
from offline_bundle.wheelhouse.runtime.names import PROVENANCE
from offline_bundle.wheelhouse.runtime.sizes import count

_PUBLIC_SIGSTORE = "https://tuf-repo-cdn.sigstore.dev"
_PAYLOAD = "application/vnd.in-toto+json"
_NAMES = ("repository", "email", "project_id")
_WORKFLOWS = ("workflow", "workflow_filepath", "pipeline_definition_id")


class AttestationError(Exception):
    """An attestation does not prove the origin of a file; the text is the reason."""


class AttestationVerifier:
    """Verifies attestations against one trusted root."""

    def __init__(self, trusted_root: Path | None = None) -> None:
        """Load *trusted_root* (JSON), by default the one in the package `sigstore`.

        Raises InputError if the extra is not installed, or the file is not a trusted root.
        """
        try:
            models = import_module("sigstore.models")
            verify = import_module("sigstore.verify")
            self._attestations = import_module("pypi_attestations")
        except ImportError as error:
            raise InputError(
                f"attestations cannot be verified: {error.name} is not installed",
                hint="install the extra, such as by: uv tool install '.[attestations]'",
            ) from error
        # why not Verifier.production(): it takes the root from the user's cache folder if there is
        # one, and writes to it
        folder = resources.files("sigstore._store") / quote(_PUBLIC_SIGSTORE, safe="")
        with resources.as_file(folder / "trusted_root.json") as embedded:
            path = trusted_root or embedded
            try:
                root = models.TrustedRoot.from_file(str(path))
                self._verifier = verify.Verifier(trusted_root=root)
            except Exception as error:
                raise InputError(
                    f"{path}: not a trusted root of Sigstore: {_first_line(error)}",
                    hint="name a trusted_root.json",
                ) from error

    def verify(self, provenance: bytes, filename: str, sha256: str) -> Publisher:
        """Return the publisher of a wheel; raises AttestationError.

        *provenance* is a provenance object of PEP 740. All attestations in it must hold.
        """
        publishers = []
        try:
            document = self._attestations.Provenance.model_validate_json(provenance)
            for bundle in document.attestation_bundles:
                for attestation in bundle.attestations:
                    policy = bundle.publisher._as_policy()  # noqa: SLF001 - see __init__
                    self.verify_one(attestation, policy, filename, sha256)
                    publishers.append(_publisher(bundle.publisher))
        except AttestationError:
            raise
        except Exception as error:
            raise AttestationError(_first_line(error)) from error  # untrusted input, five libraries
        if not publishers:
            raise AttestationError("the provenance has no attestation")
        return publishers[0]

    def verify_one(self, attestation: Any, policy: Any, filename: str, sha256: str) -> None:  # noqa: ANN401 - models of libraries that may be missing
        """Verify one attestation of a file by a policy of sigstore; raises what these raise."""
        kind, payload = self._verifier.verify_dsse(attestation.to_bundle(), policy)
        statement = json.loads(payload) if kind == _PAYLOAD else {}
        if statement.get("predicateType") not in {*self._attestations.AttestationType}:
            raise AttestationError("the statement is of an unknown kind")
        _check_subject(statement, filename, sha256)


def attested_wheels(manifest: Manifest) -> list[str]:
    """Return the paths of the wheels that the manifest names a publisher for."""
    return [path for path in wheel_paths(manifest) if manifest.files[path].publisher]


def verify_wheels(manifest: Manifest, read: Reader, verifier: AttestationVerifier) -> Provenance:
    """Verify the attestation of every wheel that the manifest names a publisher for.

    Raises InputError or IntegrityError for provenance files that are missing or changed.
    """
    wheels = {path: manifest.files[path] for path in wheel_paths(manifest)}
    attested = attested_wheels(manifest)
    contents = read_files(manifest, [f"{path}{PROVENANCE}" for path in attested], read)
    verified: dict[str, Publisher] = {}
    wrong: dict[str, str] = {}
    for path in attested:
        file = wheels[path]
        filename = path.rpartition("/")[2]
        try:
            content = contents[f"{path}{PROVENANCE}"]
            publisher = verifier.verify(content, filename, file.sha256 or "")
        except AttestationError as error:
            wrong[path] = str(error)
            continue
        if publisher == file.publisher:
            verified[path] = publisher
        else:
            wrong[path] = f"built by {publisher}, but the manifest names {file.publisher}"
    absent = tuple(path for path in wheels if path not in attested)
    return Provenance(verified, wrong, absent)


def verify_where_possible(
    manifest: Manifest, read: Reader, trusted_root: Path | None
) -> Provenance:
    """Verify as `verify_wheels`; without the extra, or the files, return why that is not possible.

    Raises InputError if the user names a trusted root, IntegrityError for changed files.
    """
    attested = attested_wheels(manifest)
    absent = tuple(path for path in wheel_paths(manifest) if path not in attested)
    if not attested:
        return Provenance({}, {}, absent)
    try:
        return verify_wheels(manifest, read, AttestationVerifier(trusted_root))
    except InputError as error:
        if trusted_root:
            raise
        return Provenance({}, {}, absent, unverified=error.message)


def check_provenance(
    provenance: Provenance, manifest: Manifest, required: frozenset[str], where: str
) -> None:
    """Raise IntegrityError (5) for attestations that do not hold, or are required and absent."""
    problems = [f"{path}: {reason}" for path, reason in provenance.wrong.items()]
    problems += [
        f"{path}: no attestation, and one is required"
        for path in provenance.absent
        if includes(required, manifest.files[path].name or "")
    ]
    if problems:
        raise IntegrityError(
            f"{where}: {count(len(problems), 'wheel')} without a valid attestation",
            problems=first_problems(problems),
            hint="do not use these wheels: ask the publisher of the bundle where they are from",
        )


def _check_subject(statement: dict[str, Any], filename: str, sha256: str) -> None:
    """Check that a signed in-toto statement is about one file, and exactly this one."""
    [subject] = statement["subject"]
    if parse_wheel_filename(subject["name"]) != parse_wheel_filename(filename):
        raise AttestationError(f"the statement is about {subject['name']}")
    if subject["digest"].get("sha256") != sha256:
        raise AttestationError("the statement is about a file with another sha256")


def _publisher(publisher: Any) -> Publisher:  # noqa: ANN401 - a union of models
    fields = publisher.model_dump()
    return Publisher(
        kind=fields["kind"],
        name=next((fields[key] for key in _NAMES if fields.get(key)), "unknown"),
        workflow=next((fields[key] for key in _WORKFLOWS if fields.get(key)), None),
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
