"""OpenSSH signatures over `bundle.json`, checked by ssh-keygen."""

import os
import stat

from .errors import SignatureError
from .names import MANIFEST, SIGNATURE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Optional, Union

    PathLike = Union[str, os.PathLike[str]]


NAMESPACE = "offline-bundle"


_LARGEST_SIGNATURE = 64 * 1024


_MOST_SIGNATURES = 16


_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"


RESIGN_HINT = "carry the bundle over again, or have it signed again by somebody who is allowed to"


class Signer:
    """Who signed: the name under which the key is allowed, and the key."""

    def __init__(self, identity: str, key_type: str, fingerprint: str) -> None:
        self.identity = identity
        self.key_type = key_type
        self.fingerprint = fingerprint


class SignerPolicy:
    """Whose signatures are good: an allowed signers file, perhaps one name in it, perhaps a list of revoked keys."""

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
    """Return `bundle.json.sig`, or None when there is none. Never follows a link or waits on a fifo."""

    path = os.path.join(bundle, SIGNATURE)
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, os.O_RDONLY | flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise untrusted(
            "wrong", f"wrong signature: {path} cannot be read: {error.strerror}"
        ) from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_SIGNATURE:
        os.close(descriptor)
        raise untrusted("wrong", f"wrong signature: {path} is no signature file")
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_LARGEST_SIGNATURE)


def check_signature(content: bytes, signature: "Optional[bytes]", trust: SignerPolicy) -> Signer:
    """Return who signed *content*; raise UntrustedError when nobody whom *trust* allows did.

    While a signed bundle is being updated its signature file holds two: of the manifest before and of the one to come.
    """
    import tempfile

    if signature is None:
        raise untrusted("absent", f"not signed: there is no {SIGNATURE}")
    blocks = signatures_in(signature)
    with tempfile.TemporaryDirectory(prefix="offline-bundle-") as folder:
        keygen = _Keygen(trust, content, os.path.join(folder, SIGNATURE))
        key = keygen.signing_key(blocks)
        name = keygen.allowed_name()
        if name is None:
            raise keygen.fault(key)
        return Signer(name, *key)


def _find_program() -> "Optional[str]":
    import shutil

    return shutil.which("ssh-keygen")


def signatures_in(signature: bytes) -> "list[bytes]":
    """Split a signature file; raises UntrustedError when there is no signature in it."""
    blocks = [
        _BEGIN + rest.partition(_END)[0] + _END + b"\n"
        for rest in signature.split(_BEGIN)[1:]
        if _END in rest
    ]
    if not blocks or not signature.startswith(_BEGIN):
        raise untrusted("wrong", f"wrong signature: {SIGNATURE} is not an OpenSSH signature")
    return blocks[:_MOST_SIGNATURES]


class _Keygen:
    """ssh-keygen, asked about one signature."""

    def __init__(self, trust: SignerPolicy, content: bytes, place: str) -> None:
        self._trust = trust
        self._content = content
        self._place = place
        program = trust.ssh_keygen or _find_program()
        if program is None:
            raise untrusted(
                "unchecked",
                "the signature cannot be checked: ssh-keygen is not on PATH",
                "install OpenSSH's client (8.2 or newer), or add it to PATH",
            )
        self._program = program

    def signing_key(self, blocks: "Iterable[bytes]") -> "tuple[str, str]":
        """Return type and fingerprint of the key whose signature fits the content; the fitting one stays in place."""
        said = ""
        for block in blocks:
            with open(self._place, "wb") as file:
                file.write(block)
            code, out, said = self._run("check-novalidate", "-n", NAMESPACE)
            words = out.split()
            if code == 0 and len(words) > 2 and words[-2] == "key":
                return words[-3], words[-1]
        if "incorrect signature" in said:
            message = f"modified after signing: {MANIFEST} is not the one that was signed"
            raise untrusted("modified", message)
        if "namespace" in said:
            message = f"wrong signature: it was made for another purpose than {NAMESPACE}"
            raise untrusted("wrong", message, f"sign with `ssh-keygen -Y sign -n {NAMESPACE}`")
        if "unknown option" in said or "illegal option" in said:
            message = f"the signature cannot be checked: {self._program} is too old"
            raise untrusted("unchecked", message, "install OpenSSH's client, 8.2 or newer")
        reason = said.strip().splitlines()[0] if said.strip() else "ssh-keygen does not accept it"
        raise untrusted("wrong", f"wrong signature: {reason}")

    def allowed_name(self, *, heed_revoked: bool = True) -> "Optional[str]":
        """Return the name under which the key may sign bundles now, or None."""
        names = [self._trust.signer] if self._trust.signer else self._find_names()[0]
        revoked = ["-r", self._trust.revoked] if self._trust.revoked and heed_revoked else []
        for name in names:
            if self._verify(name, revoked)[0] == 0:
                return name
        return None

    def fault(self, key: "tuple[str, str]") -> SignatureError:
        """Find out why there is no such name."""
        shown = f"{key[0]} key {key[1]}"
        if self._trust.revoked and self.allowed_name(heed_revoked=False):
            return untrusted(
                "revoked", f"revoked: the signing {shown} is listed in {self._trust.revoked}"
            )
        names, complaints = self._find_names()
        for name in [self._trust.signer] if self._trust.signer else names:
            complaints = self._verify(name, [])[1] + complaints
        if "key has expired" in complaints:
            return untrusted("expired", f"expired: the signing {shown} is past its valid-before")
        if "key is not yet valid" in complaints:
            return untrusted(
                "early", f"not yet valid: the signing {shown} is before its valid-after"
            )
        if self._trust.signer and names and self._trust.signer not in names:
            message = f"signed by {', '.join(names)}, not by {self._trust.signer} ({shown})"
            return untrusted("other-signer", message)
        return untrusted(
            "not-allowed", f"not allowed: {self._trust.allowed} does not let {shown} sign bundles"
        )

    def _find_names(self) -> "tuple[list[str], str]":
        code, out, said = self._run("find-principals", "-f", self._trust.allowed)
        return (out.splitlines() if code == 0 else []), said

    def _verify(self, name: str, revoked: "list[str]") -> "tuple[int, str]":
        code, _, said = self._run(
            "verify", "-n", NAMESPACE, "-I", name, "-f", self._trust.allowed, *revoked
        )
        return code, said

    def _run(self, action: str, *arguments: str) -> "tuple[int, str, str]":
        import subprocess

        command = [self._program, "-Y", action, "-s", self._place, *arguments]
        variables = {**os.environ, "LC_ALL": "C"}
        try:
            done = subprocess.run(
                command, input=self._content, capture_output=True, env=variables, check=False
            )
        except OSError as error:
            message = f"the signature cannot be checked: {self._program}: {error.strerror}"
            raise untrusted(
                "unchecked", message, "install OpenSSH's client, 8.2 or newer"
            ) from None
        return (
            done.returncode,
            done.stdout.decode("utf-8", "replace"),
            done.stderr.decode("utf-8", "replace"),
        )


def untrusted(kind: str, message: str, hint: "Optional[str]" = RESIGN_HINT) -> SignatureError:
    """Return the error for a signature that cannot be accepted; see SignatureError for *kind*."""
    return SignatureError(message, kind=kind, hint=hint)
