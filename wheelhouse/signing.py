"""Signatures of bundles: OpenSSH signatures over `bundle.json`, made and checked by ssh-keygen.

The manifest has the digest of every file, so one signature over it covers the bundle. Keys may be
files, in an agent or in hardware: ssh-keygen handles them, and prompts on the terminal itself.

    sign(Path("bundle"), "~/.ssh/id_ed25519")
    check_manifest_signature(document, signature, SignerPolicy("allowed_signers")).fingerprint
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from offline_bundle.wheelhouse.runtime.bundle.manifest import read_manifest_bytes
from offline_bundle.wheelhouse.runtime.bundle.policy import check_policies, may_be_in_force
from offline_bundle.wheelhouse.runtime.bundle.signatures import (
    NAMESPACE,
    Signer,
    SignerPolicy,
    check_signature,
    read_signature,
)
from offline_bundle.wheelhouse.runtime.errors import BundleError, InputError, SignatureError
from offline_bundle.wheelhouse.runtime.names import MANIFEST, SIGNATURE
from offline_bundle.wheelhouse.runtime.processes import find_program
from offline_bundle.wheelhouse.store.verify import raise_for_problems, verify
from offline_bundle.wheelhouse.store.writer import BundleWriter

_NOISE = ("Signing file ", "Write signature to ")


def sign(directory: Path, key: str) -> Path:
    """Verify the bundle at *directory* and sign it; return the path of the signature.

    *key* is the file of a private key, or of a public key whose private key an agent or a device
    has. Raises InputError (2) for a missing key, IntegrityError (5) for a bundle that does not
    match its manifest, SignatureError (6) if ssh-keygen fails.
    """
    read_manifest_bytes(directory)
    sign_bytes = signing_with(key)
    with BundleWriter(directory) as writer:
        document = read_manifest_bytes(directory)  # once: another user may replace it meanwhile
        raise_for_problems(verify(directory, document=document))
        signature = sign_bytes(document)
        if read_signature(str(directory)) != signature:
            writer.replace_signature(signature)
    return directory / SIGNATURE


def signing_with(key: str) -> Callable[[bytes], bytes]:
    """Return a function that signs the bytes of a manifest with *key*; raises as `sign` does.

    A missing key or ssh-keygen is reported here, before the work whose result is to be signed.
    """
    path = Path(key).expanduser()
    if not path.is_file():
        hint = "name the file of a private key, or the .pub file of a key in ssh-agent or a device"
        raise InputError(f"no such key: {key}", hint=hint)
    program = find_program("ssh-keygen")
    if program is None:
        hint = "install OpenSSH's client, 8.2 or newer"
        raise BundleError("ssh-keygen is not on PATH", hint=hint)
    command = [program, "-Y", "sign", "-n", NAMESPACE, "-f", str(path)]
    return partial(_sign_bytes, command=command, key=key)


def check_manifest_signature(
    content: bytes, signature: bytes | None, policy: SignerPolicy
) -> Signer:
    """Return the signer of a manifest, of a bundle or an archive.

    Raises SignatureError (6) if there is none that *policy* allows. A signature covers the manifest
    only: `verify` compares the files with it.
    """
    for path in (policy.allowed, policy.revoked):
        if path is not None and not Path(path).is_file():
            hint = "check the path; see ALLOWED SIGNERS in ssh-keygen(1) for the format"
            raise InputError(f"no such file: {path}", hint=hint)
    return check_signature(content, signature, policy)


def check_trust(
    content: bytes, signature: bytes | None, policy: SignerPolicy | None
) -> tuple[Signer, ...]:
    """Return the signers that the site's policy and *policy* require; none if neither is given.

    *content* is the manifest of a bundle or an archive. Raises SignatureError (6).
    """
    signers = check_policies(content, signature) if may_be_in_force() else []
    if policy:
        signers.append(check_manifest_signature(content, signature, policy))
    return tuple(signers)


def _sign_bytes(content: bytes, command: list[str], key: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
        document = Path(folder) / MANIFEST
        document.write_bytes(content)
        code, output = _run_ssh_keygen([*command, str(document)])
        signature = document.with_name(SIGNATURE)
        if code != 0 or not signature.is_file():
            hint = _signing_hint("\n".join(output))
            raise SignatureError(f"could not sign with {key}", problems=output, hint=hint)
        return signature.read_bytes()


def _run_ssh_keygen(command: list[str]) -> tuple[int, list[str]]:
    """Run ssh-keygen; return its exit code and output. It prompts on the terminal itself."""
    lines = []
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
                lines.append(line.strip())
                if line.startswith("Confirm"):  # "Confirm user presence": touch the device
                    print(line, end="", file=sys.stderr, flush=True)  # noqa: T201 - wait for it
    return process.returncode, lines


def _signing_hint(output: str) -> str:
    if "passphrase" in output:
        return "enter the right passphrase, or add the key to ssh-agent first (ssh-add)"
    if "No private key" in output or "agent" in output:
        return "name the private key's file, or add the key to ssh-agent (ssh-add)"
    return "try `ssh-keygen -Y sign -n offline-bundle -f KEY FILE`"
