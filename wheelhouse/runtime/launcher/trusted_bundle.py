"""A bundle whose manifest satisfies the signature policy of the site."""

import os
from contextlib import contextmanager

from ..bundle.manifest import Manifest
from ..bundle.policy import trusted_manifest
from ..disk.file_identity import path_steps
from ..disk.files import (
    CHUNK_SIZE,
    NotRegularError,
    new_sha256,
    open_regular,
    remove_file,
    safe_flags,
)
from ..errors import IntegrityError, SignatureError
from ..names import MANIFEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BytesIO, FileIO
    from typing import Optional, Union

DAMAGED_HINT = "copy the bundle again; `offline-bundle verify DIR` lists all files that differ"


class TrustedBundle:
    """A bundle with its checked manifest, and the fingerprints of the keys that signed it."""

    def __init__(self, folder: str, manifest: Manifest, signers: "tuple[str, ...]") -> None:
        self.folder = folder
        self.manifest = manifest
        self.signers = signers

    def path(self, name: str) -> str:
        """Return the path of a file of the bundle."""
        return os.path.join(self.folder, name)

    def open(self, name: str) -> "FileIO":
        """Open a file of the bundle; raise IntegrityError if it is missing or not regular."""
        try:
            return open_regular(self.path(name), follow_links=True)
        except FileNotFoundError:
            raise IntegrityError(f"{self.path(name)} is missing", hint=DAMAGED_HINT) from None
        except NotRegularError as error:
            message = f"{self.path(name)} is {error.strerror}"
            raise IntegrityError(message, hint=DAMAGED_HINT) from None

    def read(self, name: str) -> bytes:
        """Return the content of a file; raise IntegrityError if it differs from the manifest."""
        return b"".join(self._chunks(name))

    def copy(self, name: str, target: str, *, mode: int = 0o600) -> None:
        """Copy a file to the new file *target*; raise IntegrityError, without it, if it differs.

        What was checked is what is in *target*: the file of the bundle is read once.
        """
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | safe_flags(), mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for chunk in self._chunks(name):
                    file.write(chunk)
        except BaseException:
            remove_file(target)
            raise

    def check(self, name: str, file: "Union[FileIO, BytesIO]") -> None:
        """Raise IntegrityError if the open *file*, however large, differs from the manifest."""
        for _ in self._compared(name, file):
            pass

    def _chunks(self, name: str) -> "Iterator[bytes]":
        """Yield the content of a file; raise IntegrityError at its end if it differs."""
        with self.open(name) as file:
            yield from self._compared(name, file)

    def _compared(self, name: str, file: "Union[FileIO, BytesIO]") -> "Iterator[bytes]":
        path = self.path(name)
        listed = self.manifest.files.get(name)
        if listed is None:
            raise IntegrityError(f"{path} is not in {MANIFEST}", hint=DAMAGED_HINT)
        digest, left = new_sha256(), listed.size or 0
        # one byte more than listed, to notice a longer file
        while chunk := file.read(min(left + 1, CHUNK_SIZE)):
            digest.update(chunk)
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
        if left or digest.hexdigest() != listed.sha256:
            message = f"{path} does not match its digest in {MANIFEST}"
            raise IntegrityError(message, hint=DAMAGED_HINT)


def open_bundle(folder: str) -> TrustedBundle:
    """Read and check the manifest and its signatures, as far as the site's policy requires them."""
    path = os.path.join(folder, MANIFEST)
    try:
        with name_bundle(folder):
            content, signers = trusted_manifest(folder)
            manifest = Manifest.from_json(content)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise IntegrityError(message, hint=DAMAGED_HINT) from None
    return TrustedBundle(folder, manifest, tuple(signer.fingerprint for signer in signers))


def name_in_bundle(file: str, bundle: str) -> "Optional[str]":
    """Return the path of a file in the bundle; None for one that is elsewhere.

    A file is the bundle's if its path leads through the bundle: users with write access to that
    could replace the file or its folder by a link to a file of theirs.
    """
    folder, root, name = os.stat(bundle), "", None
    for path, status in path_steps(os.path.join(os.getcwd(), file)):
        if os.path.samestat(status, folder):  # also where it is mounted a second time
            root = os.path.join(path, "")
        elif root and path.startswith(root):
            name = path[len(root) :].replace(os.sep, "/")
    return name


@contextmanager
def name_bundle(folder: str) -> "Iterator[None]":
    """Add the bundle's folder to errors about its manifest and signatures."""
    try:
        yield
    except (SignatureError, IntegrityError) as error:
        error.add_subject(folder)
        raise
