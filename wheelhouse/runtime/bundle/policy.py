"""The site's policy on signatures: which signers a bundle must have to be used on this machine."""

import os
import stat
import sys
import time

from ..disk.file_identity import file_identity, is_present, path_steps, read_regular
from ..errors import IntegrityError, SignatureError
from ..names import MANIFEST, POLICY_PATH, SIGNATURE
from ..strict_json import parse_object
from .signatures import SignerPolicy, check_signature, read_signature, untrusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Optional

    from .signatures import Signer

_KEYS = {"allowed-signers", "signer", "revoked-keys", "ssh-keygen", "launcher"}


def trusted_manifest(bundle: str) -> "tuple[bytes, list[Signer]]":
    """Return `bundle.json` as it was checked, and its signers: one for each policy in force.

    While an update commits, one file may be read from before it and the other from after it; then
    both are read again. Raises SignatureError, and OSError if there is no manifest.
    """
    in_force = policies()
    content = _read_manifest(bundle)
    while in_force:
        signature = read_signature(bundle)
        try:
            return content, [check_signature(content, signature, policy) for policy in in_force]
        except SignatureError as error:
            newer = _read_manifest(bundle)
            if error.kind not in ("absent", "modified") or newer == content:
                raise
            content = newer
    return content, []


def check_policies(content: bytes, signature: "Optional[bytes]") -> "list[Signer]":
    """Return the signers of a manifest: one for each policy in force. Raises SignatureError."""
    return [check_signature(content, signature, policy) for policy in policies()]


def may_be_in_force() -> bool:
    """Return whether there may be a policy, or what should be one, without reading it."""
    return bool(os.environ.get("OFFLINE_BUNDLE_POLICY")) or is_present(POLICY_PATH)


def policies() -> "list[SignerPolicy]":
    """Return the policies in force, the site's first. Raises SignatureError for a faulty one."""
    return [_read_policy(path, users) for path, users in _policy_paths()]


def site_launcher() -> "Optional[str]":
    """Return the site's own `run.py`, which the first policy in force names; None without a policy.

    Raises SignatureError if it names none, or if others can change it or the modules next to it.
    """
    for path, users in _policy_paths():
        launcher = _read_files(path, users).get("launcher")
        if launcher is None:
            raise untrusted(
                "policy",
                f"{path} does not name a launcher, so jobs cannot check the bundle",
                'add "launcher": the path of a reviewed run.py, with runtime/ next to it',
            )
        runtime = os.path.join(os.path.dirname(launcher), "runtime")
        for folder, folders, names in os.walk(runtime, followlinks=True):
            for name in [*folders, *names]:  # an empty __pycache__ could be filled later
                _check_not_writable_by_others(os.path.join(folder, name), users)
        return launcher
    return None


def policy_state(bundle: str) -> "list[str]":
    """Return texts that change when the result of a check may change; empty without a policy.

    They are part of launch records. Keys expire, so an unchanged result is valid for one hour.
    """
    paths = []
    for path, users in _policy_paths():
        policy = _read_policy(path, users)
        paths += [path, policy.allowed, policy.revoked or "", policy.signer or ""]
    if not paths:
        return []
    states = [_file_state(path) for path in [*paths, os.path.join(bundle, SIGNATURE)]]
    return [*paths, *states, str(int(time.time()) // 3600)]


def _policy_paths() -> "Iterator[tuple[str, set[int]]]":
    """Yield the path of each policy, with the users that may have written it."""
    if sys.platform != "win32" and is_present(POLICY_PATH):
        yield POLICY_PATH, root_users()
    added = os.environ.get("OFFLINE_BUNDLE_POLICY")
    if added:
        users = set() if sys.platform == "win32" else {*root_users(), os.getuid()}
        yield os.path.abspath(added), users


def _read_policy(path: str, users: "set[int]") -> SignerPolicy:
    files = _read_files(path, users)
    return SignerPolicy(
        files["allowed-signers"],
        files.get("signer"),
        files.get("revoked-keys"),
        files.get("ssh-keygen"),
    )


def _read_files(path: str, users: "set[int]") -> "dict[str, str]":
    """Return the entries of a policy; each file by its absolute path, and checked."""
    _check_not_writable_by_others(path, users)
    try:
        document = parse_object(read_regular(path), path)
    except OSError as error:
        raise _policy_fault(path, f"cannot be read: {error.strerror}") from None
    except IntegrityError as error:
        raise _policy_fault(path, error.message[len(path) + 1 :]) from None
    if not isinstance(document.get("allowed-signers"), str):
        raise _policy_fault(path, 'must be an object with "allowed-signers"')
    unknown = [
        key
        for key, value in document.items()
        if key not in _KEYS or not isinstance(value, str) or not value or not value.isprintable()
    ]
    if unknown:
        raise _policy_fault(path, f"has unknown keys or values: {', '.join(sorted(unknown))}")
    folder = os.path.dirname(path)
    for key in document.keys() - {"signer"}:
        document[key] = os.path.join(folder, document[key])
        _check_not_writable_by_others(document[key], users)
    return document


def _check_not_writable_by_others(path: str, users: "set[int]") -> None:
    """Raise SignatureError unless only *users* can have written or replaced the file or folder."""
    if sys.platform == "win32":
        return
    try:
        os.stat(path)  # an OSError also for links that lead in a circle
        steps = list(path_steps(os.path.abspath(path)))
    except OSError as error:
        raise _policy_fault(error.filename or path, f"cannot be read: {error.strerror}") from None
    for name, state in steps:
        is_last, is_link = name == steps[-1][0], stat.S_ISLNK(state.st_mode)
        if is_last and not stat.S_ISREG(state.st_mode) and not stat.S_ISDIR(state.st_mode):
            raise _policy_fault(name, "is not a file")  # reading a fifo would wait
        if state.st_uid not in (users if is_last else users | root_users()):
            raise _policy_fault(name, f"belongs to user {state.st_uid}")
        is_sticky = not is_last and state.st_mode & stat.S_ISVTX
        if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_sticky and not is_link:
            mode = f"{stat.S_IMODE(state.st_mode):04o}"
            raise _policy_fault(name, f"can be written by others (mode {mode})")


def root_users() -> "set[int]":
    """Return the user number of root: 0, and its substitute in a user namespace without root."""
    try:
        with open("/proc/self/uid_map", "rb") as file:
            if file.read().split()[:2] == [b"0", b"0"]:
                return {0}
        with open("/proc/sys/kernel/overflowuid", "rb") as file:
            return {0, int(file.read())}
    except (OSError, ValueError):
        return {0}


def _policy_fault(path: str, problem: str) -> SignatureError:
    return untrusted(
        "policy",
        f"the signature policy cannot be applied: {path} {problem}",
        "a policy and the files that it names must exist, and be writable by root only "
        "(or by you, for OFFLINE_BUNDLE_POLICY)",
    )


def _file_state(path: str) -> str:
    try:
        return file_identity(path)
    except OSError:
        return ""


def _read_manifest(bundle: str) -> bytes:
    return read_regular(os.path.join(bundle, MANIFEST))
