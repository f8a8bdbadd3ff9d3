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
from functools import partial
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.runtime.errors import (
    BundleError,
    InputError,
    SignatureError,
    translate_os_errors,
)
from offline_bundle.wheelhouse.runtime.manifest import read_manifest_bytes
from offline_bundle.wheelhouse.runtime.names import MANIFEST, SIGNATURE, WRITER
from offline_bundle.wheelhouse.runtime.policy import check_policies, may_be_in_force
from offline_bundle.wheelhouse.runtime.signatures import (
    NAMESPACE,
    Signer,
    SignerPolicy,
    check_signature,
    read_signature,
)
from offline_bundle.wheelhouse.store.verify import raise_for_problems, verify
from offline_bundle.wheelhouse.store.writer import PENDING, BundleWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from offline_bundle.wheelhouse.runtime.manifest import Manifest
    from offline_bundle.wheelhouse.store.verify import VerifyReport

_NOISE = ("Signing file ", "Write signature to ")


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


def signing_with(key: str) -> Callable[[bytes], bytes]:
    """Return what signs the bytes of a manifest with *key*; raises as `sign` does.

    A key or an ssh-keygen that is not there is told here, before the work whose result would be signed.
    """
    path = Path(key).expanduser()
    if not path.is_file():
        hint = (
            "name a private key's file, or the .pub file of a key that ssh-agent or a device holds"
        )
        raise InputError(f"there is no key {key}", hint=hint)
    program = which("ssh-keygen")
    if program is None:
        raise BundleError(
            "ssh-keygen is not on PATH", hint="install OpenSSH's client, 8.2 or newer"
        )
    return partial(
        _signature_of, command=[program, "-Y", "sign", "-n", NAMESPACE, "-f", str(path)], key=key
    )


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


def check_bundle_signature(
    directory: Path, trust: SignerPolicy, *, content: bytes | None = None
) -> Signer:
    """Return who signed the bundle at *directory*; raises SignatureError (6) unless *trust* allows them.

    *content* is the manifest as the caller read it, so that what is checked is what is used; default: as it lies there.
    Says nothing about the other files: `verify` does, and `refuse_unsettled` belongs to it.
    """
    content = read_manifest_bytes(directory) if content is None else content
    return check_content(content, read_signature(str(directory)), trust)


def check_content(content: bytes, signature: bytes | None, trust: SignerPolicy) -> Signer:
    """Do the same for a manifest and its signature at hand, such as an archive's."""
    for path in (trust.allowed, trust.revoked):
        if path is not None and not Path(path).is_file():
            raise InputError(
                f"there is no file {path}",
                hint="check the path; ssh-keygen(1) describes such a file: ALLOWED SIGNERS",
            )
    return check_signature(content, signature, trust)


def enforce_policy(directory: Path, *, content: bytes | None = None) -> tuple[Signer, ...]:
    """Refuse a bundle that does not satisfy the site's policy (SignatureError); return its signers, none without one.

    *content* as for `check_signature`.
    """
    if not may_be_in_force():
        return ()
    content = read_manifest_bytes(directory) if content is None else content
    return enforce_policy_on(content, read_signature(str(directory)))


def enforce_policy_on(content: bytes, signature: bytes | None) -> tuple[Signer, ...]:
    """Do the same for a manifest and its signature at hand, such as an archive's."""
    return tuple(check_policies(content, signature))


def check_trust(
    content: bytes, signature: bytes | None, trust: SignerPolicy | None
) -> tuple[Signer, ...]:
    """Ask for what *trust* and the site's policy ask for; returns who signed, nobody when neither asks.

    For a bundle or an archive, by its manifest and its signature. Raises SignatureError (6).
    """
    signers = enforce_policy_on(content, signature) if may_be_in_force() else ()
    return (*signers, check_content(content, signature, trust)) if trust else signers


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
    with translate_os_errors(writer.directory):
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
        return (
            "give the right passphrase on the terminal, or add the key to ssh-agent first (ssh-add)"
        )
    if "No private key" in said or "agent" in said:
        return "name the private key's file, or add the key to ssh-agent (ssh-add)"
    return "try `ssh-keygen -Y sign -n offline-bundle -f KEY FILE` by hand"
