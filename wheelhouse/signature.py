"""The signature of a bundle: OpenSSH's, over `bundle.json`, made and checked by ssh-keygen.

The manifest names every file with its digest, so one signature over it covers the bundle. Keys may be files, live in an
agent or in hardware: ssh-keygen handles them, and asks for passphrases on the terminal itself.

    sign(Path("bundle"), "~/.ssh/id_ed25519")
    check_signature(Path("bundle"), Path("allowed_signers"), signer="release@example.org").fingerprint
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from wheelhouse import policy
from wheelhouse.errors import BundleError, InputError, SignatureError
from wheelhouse.manifest import MANIFEST, SIGNATURE, WRITER, read_manifest_bytes
from wheelhouse.refusals import as_bundle_errors
from wheelhouse.store import PENDING, BundleWriter
from wheelhouse.verify import raise_for_problems, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from wheelhouse.manifest import Manifest
    from wheelhouse.verify import VerifyReport

_NOISE = ("Signing file ", "Write signature to ")


@dataclass(frozen=True)
class Signer:
    """Who signed."""

    identity: str
    """The name under which the key is allowed."""
    key_type: str
    """`ED25519`, `RSA`, `ED25519-SK` ..."""
    fingerprint: str
    """`SHA256:...`"""


@dataclass(frozen=True)
class Trust:
    """Whose signatures are good."""

    allowed_signers: Path
    """A file as ssh-keygen(1) describes it, with principals, namespaces, valid-after, valid-before and authorities."""
    signer: str | None = None
    """The one name it must be; None for anybody in the file."""
    revoked_keys: Path | None = None
    """A key revocation list, or public keys one per line."""


def sign(directory: Path, key: str) -> Path:
    """Sign the bundle at *directory*, after verifying all of it; return the path of the signature.

    *key* is a private key's file, or a public key's when an agent or a device holds the private one. Raises InputError
    (2) for a key that is not there, SignatureError (6) when ssh-keygen does not sign, IntegrityError (5) for a bundle
    that is not what its manifest says.
    """
    read_manifest_bytes(directory)
    signs = signing_with(key)
    with BundleWriter(directory) as writer:
        report = verify(directory)
        raise_for_problems(report)
        refuse_unsettled(report)
        _put_signature(writer, signs)
    return directory / SIGNATURE


def commit_signed(writer: BundleWriter, manifest: Manifest, contents: Mapping[str, bytes | Path], key: str) -> bool:
    """Commit as `BundleWriter.commit` does, and sign what it made; True when anything changed."""
    return writer.commit(manifest, contents, sign=signing_with(key))


def signing_with(key: str) -> Callable[[bytes], bytes]:
    """Return what signs the bytes of a manifest with *key*; raises as `sign` does.

    A key or an ssh-keygen that is not there is told here, before the work whose result would be signed.
    """
    path = Path(key).expanduser()
    if not path.is_file():
        hint = "name a private key's file, or the .pub file of a key that ssh-agent or a device holds"
        raise InputError(f"there is no key {key}", hint=hint)
    program = which("ssh-keygen")
    if program is None:
        raise BundleError("ssh-keygen is not on PATH", hint="install OpenSSH's client, 8.2 or newer")
    return partial(_signature_of, command=[program, "-Y", "sign", "-n", policy.NAMESPACE, "-f", str(path)], key=key)


def _signature_of(content: bytes, command: list[str], key: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
        document = Path(folder) / MANIFEST
        document.write_bytes(content)
        code, said = _run_aloud([*command, str(document)])
        signature = document.with_name(SIGNATURE)
        if code != 0 or not signature.is_file():
            raise SignatureError(
                f"{key} did not sign the bundle",
                problems=said,
                hint=_signing_hint("\n".join(said)),
            )
        return signature.read_bytes()


def check_signature(directory: Path, trust: Trust, *, content: bytes | None = None) -> Signer:
    """Return who signed the bundle at *directory*; raises SignatureError (6) unless *trust* allows them.

    *content* is the manifest as the caller read it, so that what is checked is what is used; default: as it lies there.
    Says nothing about the other files: `verify` does, and `refuse_unsettled` belongs to it.
    """
    content = read_manifest_bytes(directory) if content is None else content
    return check_content(content, read_signature(directory), trust)


def check_content(content: bytes, signature: bytes | None, trust: Trust) -> Signer:
    """Do the same for a manifest and its signature at hand, such as an archive's."""
    for path in (trust.allowed_signers, trust.revoked_keys):
        if path is not None and not path.is_file():
            raise InputError(
                f"there is no file {path}", hint="check the path; ssh-keygen(1) describes such a file: ALLOWED SIGNERS"
            )
    revoked = None if trust.revoked_keys is None else str(trust.revoked_keys)
    with _signature_errors():
        plain = policy.Trust(str(trust.allowed_signers), trust.signer, revoked)
        return _signer(policy.check(content, signature, plain))


def enforce_policy(directory: Path, *, content: bytes | None = None) -> tuple[Signer, ...]:
    """Refuse a bundle that does not satisfy the site's policy (SignatureError); return its signers, none without one.

    *content* as for `check_signature`.
    """
    if not policy.may_be_in_force():
        return ()
    content = read_manifest_bytes(directory) if content is None else content
    return enforce_policy_on(content, read_signature(directory))


def enforce_policy_on(content: bytes, signature: bytes | None) -> tuple[Signer, ...]:
    """Do the same for a manifest and its signature at hand, such as an archive's."""
    with _signature_errors():
        return _signers(policy.enforce(content, signature))


def check_trust(content: bytes, signature: bytes | None, trust: Trust | None) -> tuple[Signer, ...]:
    """Ask for what *trust* and the site's policy ask for; returns who signed, nobody when neither asks.

    For a bundle or an archive, by its manifest and its signature. Raises SignatureError (6).
    """
    signers = enforce_policy_on(content, signature) if policy.may_be_in_force() else ()
    return (*signers, check_content(content, signature, trust)) if trust else signers


def read_signature(directory: Path) -> bytes | None:
    """Return the signature of the bundle at *directory*; None when there is none."""
    with _signature_errors():
        return policy.read_signature(str(directory))


def refuse_unsettled(report: VerifyReport) -> None:
    """Raise SignatureError for files of a cut-short update: `pending.json` accounts for them, and nobody signs it."""
    if not report.is_settled:
        raise SignatureError(
            "files lie in the bundle that no signed manifest names: an update was cut short",
            problems=[f"pending: {path}" for path in report.pending],
            hint=f"run the update again; or remove the files and {PENDING}",
        )


def _put_signature(writer: BundleWriter, signs: Callable[[bytes], bytes]) -> bool:
    """Sign the manifest in force; True when that is another signature than the one there."""
    signature = signs(read_manifest_bytes(writer.directory))
    place = writer.directory / SIGNATURE
    if place.is_file() and place.read_bytes() == signature:
        return False
    staged = writer.directory / WRITER / f"{SIGNATURE}.new"
    with as_bundle_errors(writer.directory):
        try:
            with staged.open("wb") as file:
                file.write(signature)
                os.fsync(file.fileno())
            staged.replace(place)
        except OSError:
            staged.unlink(missing_ok=True)
            raise
    return True


def _run_aloud(command: list[str]) -> tuple[int, list[str]]:
    """Run ssh-keygen; show at once what it says (touch the key!), and return it too. Prompts go to the terminal."""
    said = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C"},
    ) as process:
        for line in process.stdout or ():
            if not line.startswith(_NOISE) and line.strip():
                said.append(line.strip())
                if line.startswith("Confirm"):
                    print(line, end="", file=sys.stderr, flush=True)  # noqa: T201 - the user must act on it
    return process.returncode, said


def _signing_hint(said: str) -> str:
    if "passphrase" in said:
        return "give the right passphrase on the terminal, or add the key to ssh-agent first (ssh-add)"
    if "No private key" in said or "agent" in said:
        return "name the private key's file, or add the key to ssh-agent (ssh-add)"
    return "try `ssh-keygen -Y sign -n offline-bundle -f KEY FILE` by hand"


@contextmanager
def _signature_errors() -> Iterator[None]:
    try:
        yield
    except policy.UntrustedError as fault:
        raise SignatureError(fault.message, hint=fault.hint) from fault


def _signers(found: Iterable[policy.Signer]) -> tuple[Signer, ...]:
    return tuple(map(_signer, found))


def _signer(found: policy.Signer) -> Signer:
    return Signer(found.identity, found.key_type, found.fingerprint)
