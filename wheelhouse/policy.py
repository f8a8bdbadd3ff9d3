"""Signatures of a bundle, and the site's policy on them: what a node trusts, with the standard library alone.

A site says in /etc/offline-bundle/policy.json whose signature a bundle must carry:

    {"allowed-signers": "allowed_signers", "signer": "release@example.org", "revoked-keys": "revoked"}

`allowed-signers` is a file as ssh-keygen(1) describes it, relative to the policy's folder; `signer`, `revoked-keys` and
`ssh-keygen` (the program) may be left out. OFFLINE_BUNDLE_POLICY names one more such file. A bundle must satisfy every
policy there is: the variable can add one, and never take the site's away. A policy that others than root (for the
variable's: than root and you) could have written is no policy but a fault, and so is one with a key not known here.

Who runs the copy of this file that came with a bundle lets the bundle judge itself: a node must have its own.
"""

# Written like run.py, beside which it lies in a bundle: for Python 3.9, with a start that imports next to nothing.

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Optional

MANIFEST = "bundle.json"

# --- signatures: OpenSSH's, checked by ssh-keygen -----------------------------------------------------------

SIGNATURE = "bundle.json.sig"
NAMESPACE = "offline-bundle"
SYSTEM_POLICY = "/etc/offline-bundle/policy.json"
_LARGEST_SIGNATURE = 64 * 1024
_MOST_SIGNATURES = 16
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
_RESIGN_HINT = "carry the bundle over again, or have it signed again by somebody who is allowed to"


class UntrustedError(Exception):
    """A signature that does not do.

    *kind* is one word: absent, wrong, modified, expired, early, revoked, not-allowed, other-signer, unchecked (there is
    no ssh-keygen that could), or policy (the policy itself is at fault).
    """

    def __init__(self, kind: str, message: str, hint: "Optional[str]" = _RESIGN_HINT) -> None:
        super().__init__(message)
        self.code = 6
        self.kind = kind
        self.message = message
        self.hint = hint


class Signer:
    """Who signed: the name under which the key is allowed, and the key."""

    def __init__(self, identity: str, key_type: str, fingerprint: str) -> None:
        self.identity = identity
        self.key_type = key_type
        self.fingerprint = fingerprint


class Trust:
    """Whose signatures are good: an allowed signers file, perhaps one name in it, perhaps a list of revoked keys."""

    def __init__(
        self,
        allowed: str,
        signer: "Optional[str]" = None,
        revoked: "Optional[str]" = None,
        ssh_keygen: "Optional[str]" = None,
    ) -> None:
        self.allowed = allowed
        self.signer = signer
        self.revoked = revoked
        self.ssh_keygen = ssh_keygen


def read_signature(bundle: str) -> "Optional[bytes]":
    """Return `bundle.json.sig`, or None when there is none. Never follows a link or waits on a fifo."""
    import stat

    path = os.path.join(bundle, SIGNATURE)
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, os.O_RDONLY | flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UntrustedError("wrong", f"wrong signature: {path} cannot be read: {error.strerror}") from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_SIGNATURE:
        os.close(descriptor)
        raise UntrustedError("wrong", f"wrong signature: {path} is no signature file")
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_LARGEST_SIGNATURE)


def check(content: bytes, signature: "Optional[bytes]", trust: Trust) -> Signer:
    """Return who signed *content*; raise UntrustedError when nobody whom *trust* allows did.

    While a signed bundle is being updated its signature file holds two: of the manifest before and of the one to come.
    """
    import tempfile

    if signature is None:
        raise UntrustedError("absent", f"not signed: there is no {SIGNATURE}")
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
    blocks = [_BEGIN + rest.partition(_END)[0] + _END + b"\n" for rest in signature.split(_BEGIN)[1:] if _END in rest]
    if not blocks or not signature.startswith(_BEGIN):
        raise UntrustedError("wrong", f"wrong signature: {SIGNATURE} is not an OpenSSH signature")
    return blocks[:_MOST_SIGNATURES]


class _Keygen:
    """ssh-keygen, asked about one signature."""

    def __init__(self, trust: Trust, content: bytes, place: str) -> None:
        self._trust = trust
        self._content = content
        self._place = place
        program = trust.ssh_keygen or _find_program()
        if program is None:
            raise UntrustedError(
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
            raise UntrustedError("modified", message)
        if "namespace" in said:
            message = f"wrong signature: it was made for another purpose than {NAMESPACE}"
            raise UntrustedError("wrong", message, f"sign with `ssh-keygen -Y sign -n {NAMESPACE}`")
        if "unknown option" in said or "illegal option" in said:
            message = f"the signature cannot be checked: {self._program} is too old"
            raise UntrustedError("unchecked", message, "install OpenSSH's client, 8.2 or newer")
        reason = said.strip().splitlines()[0] if said.strip() else "ssh-keygen does not accept it"
        raise UntrustedError("wrong", f"wrong signature: {reason}")

    def allowed_name(self, *, heed_revoked: bool = True) -> "Optional[str]":
        """Return the name under which the key may sign bundles now, or None."""
        names = [self._trust.signer] if self._trust.signer else self._find_names()[0]
        revoked = ["-r", self._trust.revoked] if self._trust.revoked and heed_revoked else []
        for name in names:
            if self._verify(name, revoked)[0] == 0:
                return name
        return None

    def fault(self, key: "tuple[str, str]") -> UntrustedError:
        """Find out why there is no such name."""
        shown = f"{key[0]} key {key[1]}"
        if self._trust.revoked and self.allowed_name(heed_revoked=False):
            return UntrustedError("revoked", f"revoked: the signing {shown} is listed in {self._trust.revoked}")
        names, complaints = self._find_names()
        for name in [self._trust.signer] if self._trust.signer else names:
            complaints = self._verify(name, [])[1] + complaints
        if "key has expired" in complaints:
            return UntrustedError("expired", f"expired: the signing {shown} is past its valid-before")
        if "key is not yet valid" in complaints:
            return UntrustedError("early", f"not yet valid: the signing {shown} is before its valid-after")
        if self._trust.signer and names and self._trust.signer not in names:
            message = f"signed by {', '.join(names)}, not by {self._trust.signer} ({shown})"
            return UntrustedError("other-signer", message)
        return UntrustedError("not-allowed", f"not allowed: {self._trust.allowed} does not let {shown} sign bundles")

    def _find_names(self) -> "tuple[list[str], str]":
        code, out, said = self._run("find-principals", "-f", self._trust.allowed)
        return (out.splitlines() if code == 0 else []), said

    def _verify(self, name: str, revoked: "list[str]") -> "tuple[int, str]":
        code, _, said = self._run("verify", "-n", NAMESPACE, "-I", name, "-f", self._trust.allowed, *revoked)
        return code, said

    def _run(self, action: str, *arguments: str) -> "tuple[int, str, str]":
        import subprocess

        command = [self._program, "-Y", action, "-s", self._place, *arguments]
        variables = {**os.environ, "LC_ALL": "C"}
        try:
            done = subprocess.run(command, input=self._content, capture_output=True, env=variables, check=False)
        except OSError as error:
            message = f"the signature cannot be checked: {self._program}: {error.strerror}"
            raise UntrustedError("unchecked", message, "install OpenSSH's client, 8.2 or newer") from None
        return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


# --- the site's policy --------------------------------------------------------------------------------------


def trusted_manifest(bundle: str) -> "tuple[bytes, list[Signer]]":
    """Return `bundle.json`, and who signed it: one for each policy in force, none without.

    The bytes returned are the bytes that were checked. While an update commits, manifest and signature may be read from
    two sides of it; then both are read again. Raises UntrustedError, and OSError when there is no manifest.
    """
    trusts = policies()
    content = _read(bundle)
    while trusts:
        try:
            return content, [check(content, read_signature(bundle), trust) for trust in trusts]
        except UntrustedError as fault:
            newer = _read(bundle)
            if fault.kind not in ("absent", "modified") or newer == content:
                raise
            content = newer
    return content, []


def enforce(content: bytes, signature: "Optional[bytes]") -> "list[Signer]":
    """Return who signed a manifest: one for each policy in force, none without. Raises UntrustedError."""
    return [check(content, signature, trust) for trust in policies()]


def may_be_in_force() -> bool:
    """Tell at no cost whether there is something to look at: a policy, or what should be one."""
    return bool(os.environ.get("OFFLINE_BUNDLE_POLICY")) or os.path.lexists(SYSTEM_POLICY)


def policies() -> "list[Trust]":
    """Return what every bundle must satisfy here, the site's policy first. Raises UntrustedError for one at fault."""
    return [_read_policy(path, users) for path, users in _policy_paths()]


def policy_state(bundle: str) -> "list[str]":
    """Return texts that change when a verdict may change: for a launcher that remembers. Empty without a policy.

    Keys expire, so even an unchanged verdict is good for the current hour only.
    """
    paths = []
    for path, users in _policy_paths():
        trust = _read_policy(path, users)
        paths += [path, trust.allowed, trust.revoked or "", trust.signer or ""]
    if not paths:
        return []
    import time

    states = [_state(path) for path in [*paths, os.path.join(bundle, SIGNATURE)]]
    return [*paths, *states, str(int(time.time()) // 3600)]


def _policy_paths() -> "Iterator[tuple[str, set[int]]]":
    """The policies there are, each with the users that may have written it."""
    if sys.platform != "win32":
        try:
            os.lstat(SYSTEM_POLICY)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise _policy_fault(SYSTEM_POLICY, f"cannot be read: {error.strerror}") from None
        else:
            yield SYSTEM_POLICY, _root_users()
    added = os.environ.get("OFFLINE_BUNDLE_POLICY")
    if added:
        users = set() if sys.platform == "win32" else {*_root_users(), os.getuid()}
        yield os.path.abspath(added), users


def _read_policy(path: str, users: "set[int]") -> Trust:
    import json

    _refuse_written_by_others(path, users)
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read().decode())
    except OSError as error:
        raise _policy_fault(path, f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _policy_fault(path, f"is not JSON: {error}") from None
    return _trust_of(document, path, users)


def _trust_of(document: "Any", path: str, users: "set[int]") -> Trust:  # noqa: ANN401
    known = {"allowed-signers", "signer", "revoked-keys", "ssh-keygen"}
    if not isinstance(document, dict) or not isinstance(document.get("allowed-signers"), str):
        raise _policy_fault(path, 'must be an object with "allowed-signers"')
    odd = [key for key in document if key not in known or not isinstance(document[key], str) or not document[key]]
    if odd:
        raise _policy_fault(path, f"has keys or values that are not known here: {', '.join(sorted(odd))}")
    folder = os.path.dirname(path)
    files = {key: os.path.join(folder, document[key]) for key in document if key != "signer"}
    for file in files.values():
        _refuse_written_by_others(file, users)
    return Trust(files["allowed-signers"], document.get("signer"), files.get("revoked-keys"), files.get("ssh-keygen"))


def _refuse_written_by_others(path: str, users: "set[int]") -> None:
    """Raise UntrustedError unless only *users* can have written the file, or put another in its place."""
    import stat

    if sys.platform == "win32":
        return
    for place in _with_parents(path):
        try:
            found = os.stat(place)
        except OSError as error:
            raise _policy_fault(place, f"cannot be read: {error.strerror}") from None
        is_folder = stat.S_ISDIR(found.st_mode)
        is_sticky = is_folder and found.st_mode & stat.S_ISVTX
        if not is_folder and not stat.S_ISREG(found.st_mode):  # a fifo would be waited for
            raise _policy_fault(place, "is not a file")
        if found.st_uid not in users and not (is_folder and found.st_uid in _root_users()):
            raise _policy_fault(place, f"belongs to user {found.st_uid}")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_sticky:
            raise _policy_fault(place, f"can be written by others (mode {stat.S_IMODE(found.st_mode):04o})")


def _with_parents(path: str) -> "Iterator[str]":
    """Name the file and each folder above it, as named and as links lead."""
    for place in dict.fromkeys([os.path.abspath(path), os.path.realpath(path)]):
        at = place
        while True:
            yield at
            if os.path.dirname(at) == at:
                break
            at = os.path.dirname(at)


def _root_users() -> "set[int]":
    """Name root's user: 0, and what stands for it in a user namespace that does not have it."""
    try:
        with open("/proc/self/uid_map", "rb") as file:
            if file.read().split()[:2] == [b"0", b"0"]:
                return {0}
        with open("/proc/sys/kernel/overflowuid", "rb") as file:
            return {0, int(file.read())}
    except (OSError, ValueError):
        return {0}


def _policy_fault(path: str, what: str) -> UntrustedError:
    return UntrustedError(
        "policy",
        f"the signature policy cannot be applied: {path} {what}",
        "a policy and what it names must exist, and only root (or you, for OFFLINE_BUNDLE_POLICY) may write it",
    )


def _state(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return repr((found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


def _read(bundle: str) -> bytes:
    with open(os.path.join(bundle, MANIFEST), "rb") as file:
        return file.read()
