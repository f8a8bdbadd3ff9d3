"""The site's policy on signatures."""

import os
import stat
import sys

from .errors import SignatureError
from .names import MANIFEST, POLICY_PATH, SIGNATURE
from .signatures import SignerPolicy, check_signature, read_signature, untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Optional

    from .signatures import Signer


def trusted_manifest(bundle: str) -> "tuple[bytes, list[Signer]]":
    """Return `bundle.json`, and who signed it: one for each policy in force, none without.

    The bytes returned are the bytes that were checked. While an update commits, manifest and signature may be read from
    two sides of it; then both are read again. Raises UntrustedError, and OSError when there is no manifest.
    """
    trusts = policies()
    content = _read(bundle)
    while trusts:
        try:
            return content, [
                check_signature(content, read_signature(bundle), trust) for trust in trusts
            ]
        except SignatureError as fault:
            newer = _read(bundle)
            if fault.kind not in ("absent", "modified") or newer == content:
                raise
            content = newer
    return content, []


def check_policies(content: bytes, signature: "Optional[bytes]") -> "list[Signer]":
    """Return who signed a manifest: one for each policy in force, none without. Raises UntrustedError."""
    return [check_signature(content, signature, trust) for trust in policies()]


def may_be_in_force() -> bool:
    """Tell at no cost whether there is something to look at: a policy, or what should be one."""
    return bool(os.environ.get("OFFLINE_BUNDLE_POLICY")) or os.path.lexists(POLICY_PATH)


def policies() -> "list[SignerPolicy]":
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
            os.lstat(POLICY_PATH)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise _policy_fault(POLICY_PATH, f"cannot be read: {error.strerror}") from None
        else:
            yield POLICY_PATH, root_users()
    added = os.environ.get("OFFLINE_BUNDLE_POLICY")
    if added:
        users = set() if sys.platform == "win32" else {*root_users(), os.getuid()}
        yield os.path.abspath(added), users


def _read_policy(path: str, users: "set[int]") -> SignerPolicy:
    import json

    _check_not_writable_by_others(path, users)
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read().decode())
    except OSError as error:
        raise _policy_fault(path, f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _policy_fault(path, f"is not JSON: {error}") from None
    return _trust_of(document, path, users)


def _trust_of(document: "Any", path: str, users: "set[int]") -> SignerPolicy:  # noqa: ANN401
    known = {"allowed-signers", "signer", "revoked-keys", "ssh-keygen"}
    if not isinstance(document, dict) or not isinstance(document.get("allowed-signers"), str):
        raise _policy_fault(path, 'must be an object with "allowed-signers"')
    odd = [
        key
        for key in document
        if key not in known or not isinstance(document[key], str) or not document[key]
    ]
    if odd:
        raise _policy_fault(
            path, f"has keys or values that are not known here: {', '.join(sorted(odd))}"
        )
    folder = os.path.dirname(path)
    files = {key: os.path.join(folder, document[key]) for key in document if key != "signer"}
    for file in files.values():
        _check_not_writable_by_others(file, users)
    return SignerPolicy(
        files["allowed-signers"],
        document.get("signer"),
        files.get("revoked-keys"),
        files.get("ssh-keygen"),
    )


def _check_not_writable_by_others(path: str, users: "set[int]") -> None:
    """Raise UntrustedError unless only *users* can have written the file, or put another in its place."""

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
        if found.st_uid not in users and not (is_folder and found.st_uid in root_users()):
            raise _policy_fault(place, f"belongs to user {found.st_uid}")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_sticky:
            raise _policy_fault(
                place, f"can be written by others (mode {stat.S_IMODE(found.st_mode):04o})"
            )


def _with_parents(path: str) -> "Iterator[str]":
    """Name the file and each folder above it, as named and as links lead."""
    for place in dict.fromkeys([os.path.abspath(path), os.path.realpath(path)]):
        at = place
        while True:
            yield at
            if os.path.dirname(at) == at:
                break
            at = os.path.dirname(at)


def root_users() -> "set[int]":
    """Name root's user: 0, and what stands for it in a user namespace that does not have it."""
    try:
        with open("/proc/self/uid_map", "rb") as file:
            if file.read().split()[:2] == [b"0", b"0"]:
                return {0}
        with open("/proc/sys/kernel/overflowuid", "rb") as file:
            return {0, int(file.read())}
    except (OSError, ValueError):
        return {0}


def _policy_fault(path: str, what: str) -> SignatureError:
    return untrusted(
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
