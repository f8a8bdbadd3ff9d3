"""OpenSSH signatures over `bundle.json`, checked by ssh-keygen."""

import os
import subprocess

from ..disk.files import open_regular
from ..errors import SignatureError
from ..names import MANIFEST, SIGNATURE
from ..processes import find_program, stop_ignoring_children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Optional, Union

    PathLike = Union[str, os.PathLike[str]]


NAMESPACE = "offline-bundle"
_LARGEST_SIGNATURE = 64 * 1024
_MOST_SIGNATURES = 16
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
_RESIGN_HINT = "copy the bundle again, or have an allowed signer sign it"
_INSTALL_HINT = "install the OpenSSH client, 8.2 or newer"


class Signer:
    """A signer: the name that the key is allowed under, and the key."""

    def __init__(self, identity: str, key_type: str, fingerprint: str) -> None:
        self.identity = identity
        self.key_type = key_type
        self.fingerprint = fingerprint


class SignerPolicy:
    """Which signatures are valid.

    *allowed* is an allowed signers file (see ssh-keygen(1)), *signer* the one name in it that is
    accepted, *revoked* a file of revoked keys.
    """

    def __init__(
        self,
        allowed: "PathLike",
        signer: "Optional[str]" = None,
        revoked: "Optional[PathLike]" = None,
        ssh_keygen: "Optional[str]" = None,
    ) -> None:
        self.allowed = os.fspath(allowed)
        self.signer = signer
        self.revoked = None if revoked is None else os.fspath(revoked)
        self.ssh_keygen = ssh_keygen


def read_signature(bundle: str) -> "Optional[bytes]":
    """Return `bundle.json.sig`, or None if it is missing; follow no link, wait for no fifo."""
    path = os.path.join(bundle, SIGNATURE)
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > _LARGEST_SIGNATURE:
                raise untrusted("wrong", f"wrong signature: {path} is not a signature file")
            return file.read(_LARGEST_SIGNATURE)
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"wrong signature: {path} cannot be read: {error.strerror}"
        raise untrusted("wrong", message) from None


def check_signature(content: bytes, signature: "Optional[bytes]", policy: SignerPolicy) -> Signer:
    """Return the signer of *content*; raise SignatureError unless *policy* allows it.

    During an update, the signature file has two signatures: of the old manifest and of the new one.
    """
    if signature is None:
        raise untrusted("absent", f"not signed: there is no {SIGNATURE}")
    blocks = signatures_in(signature)
    import tempfile  # slow, and only needed under a policy

    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
        keygen = _Keygen(policy, content, os.path.join(folder, SIGNATURE))
        key = keygen.signing_key(blocks)
        name = keygen.allowed_name()
        if name is None:
            raise keygen.fault(key)
        return Signer(name, *key)


def signatures_in(signature: bytes) -> "list[bytes]":
    """Split a signature file into its signatures; raise SignatureError if it has none."""
    blocks = [
        _BEGIN + part.partition(_END)[0] + _END + b"\n"
        for part in signature.split(_BEGIN)[1:]
        if _END in part
    ]
    if not blocks or not signature.startswith(_BEGIN):
        raise untrusted("wrong", f"wrong signature: {SIGNATURE} is not an OpenSSH signature")
    return blocks[:_MOST_SIGNATURES]


class _Keygen:
    """Runs ssh-keygen on one signature."""

    def __init__(self, policy: SignerPolicy, content: bytes, signature_path: str) -> None:
        self._policy = policy
        self._content = content
        self._signature_path = signature_path
        program = policy.ssh_keygen or find_program("ssh-keygen")
        if program is None:
            raise untrusted(
                "unchecked",
                "the signature cannot be checked: ssh-keygen is not on PATH",
                f"{_INSTALL_HINT}, or add it to PATH",
            )
        self._program = program

    def signing_key(self, blocks: "Iterable[bytes]") -> "tuple[str, str]":
        """Return type and fingerprint of the key that signed the content."""
        output = ""
        for block in blocks:
            with open(self._signature_path, "wb") as file:
                file.write(block)
            code, out, output = self._run("check-novalidate", "-n", NAMESPACE)
            words = out.split()
            if code == 0 and len(words) > 2 and words[-2] == "key":
                return words[-3], words[-1]
        if "incorrect signature" in output:
            message = f"modified after signing: {MANIFEST} is not the one that was signed"
            raise untrusted("modified", message)
        if "namespace" in output:
            message = f"wrong signature: it was made for another purpose than {NAMESPACE}"
            raise untrusted("wrong", message, f"sign with `ssh-keygen -Y sign -n {NAMESPACE}`")
        if "unknown option" in output or "illegal option" in output:
            message = f"the signature cannot be checked: {self._program} is too old"
            raise untrusted("unchecked", message, _INSTALL_HINT)
        reason = (output.strip() or "ssh-keygen does not accept it").splitlines()[0]
        raise untrusted("wrong", f"wrong signature: {reason}")

    def allowed_name(self, *, check_revoked: bool = True) -> "Optional[str]":
        """Return the name that the key may sign bundles under now, or None."""
        names = [self._policy.signer] if self._policy.signer else self._find_names()[0]
        revoked = ["-r", self._policy.revoked] if self._policy.revoked and check_revoked else []
        for name in names:
            if self._verify(name, revoked)[0] == 0:
                return name
        return None

    def fault(self, key: "tuple[str, str]") -> SignatureError:
        """Return the error with the reason why there is no such name."""
        shown = f"{key[0]} key {key[1]}"
        if self._policy.revoked and self.allowed_name(check_revoked=False):
            return untrusted(
                "revoked", f"revoked: the signing {shown} is listed in {self._policy.revoked}"
            )
        names, complaints = self._find_names()
        for name in [self._policy.signer] if self._policy.signer else names:
            complaints = self._verify(name, [])[1] + complaints
        if "key has expired" in complaints:
            return untrusted("expired", f"expired: the signing {shown} is past its valid-before")
        if "key is not yet valid" in complaints:
            return untrusted(
                "early", f"not yet valid: the signing {shown} is before its valid-after"
            )
        if self._policy.signer and names and self._policy.signer not in names:
            message = f"signed by {', '.join(names)}, not by {self._policy.signer} ({shown})"
            return untrusted("other-signer", message)
        return untrusted(
            "not-allowed",
            f"not allowed: {shown} is not in {self._policy.allowed} for bundles",
        )

    def _find_names(self) -> "tuple[list[str], str]":
        code, out, output = self._run("find-principals", "-f", self._policy.allowed)
        return (out.splitlines() if code == 0 else []), output

    def _verify(self, name: str, revoked: "list[str]") -> "tuple[int, str]":
        code, _, output = self._run(
            "verify", "-n", NAMESPACE, "-I", name, "-f", self._policy.allowed, *revoked
        )
        return code, output

    def _run(self, action: str, *arguments: str) -> "tuple[int, str, str]":
        command = [self._program, "-Y", action, "-s", self._signature_path, *arguments]
        variables = {**os.environ, "LC_ALL": "C"}
        stop_ignoring_children()  # else each exit code is 0: accepted
        try:
            result = subprocess.run(
                command, input=self._content, capture_output=True, env=variables, check=False
            )
        except OSError as error:
            message = f"the signature cannot be checked: {self._program}: {error.strerror}"
            raise untrusted("unchecked", message, _INSTALL_HINT) from None
        return (
            result.returncode,
            result.stdout.decode("utf-8", "replace"),
            result.stderr.decode("utf-8", "replace"),
        )


def untrusted(kind: str, message: str, hint: "Optional[str]" = _RESIGN_HINT) -> SignatureError:
    """Return the error for a signature that cannot be accepted; see SignatureError for *kind*."""
    return SignatureError(message, kind=kind, hint=hint)
