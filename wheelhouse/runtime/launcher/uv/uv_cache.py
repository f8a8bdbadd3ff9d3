"""Create a cache folder for this node's uv from the cache in an offline bundle, BUNDLE/cache.

    export UV_CACHE_DIR=$(python3 BUNDLE/uv_cache.py)       then, without network:   uv run SCRIPT

uv writes into its cache folder even to read from it, so it cannot use one on a read-only share. The
new folder links to those parts of BUNDLE/cache that are only read, and has room for the rest. A
cache only works with the version of uv that filled it: for another one, this exits with code 7.
"""

import argparse
import os
import shutil
import subprocess
import sys

from ...bundle.policy import may_be_in_force
from ...disk.cache_setup import cache_directory
from ...disk.files import has_digest, sha256_of
from ...errors import BundleError, NotInBundleError, print_error
from ...processes import find_program
from ..trusted_bundle import open_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional

    from ..trusted_bundle import TrustedBundle

FOLDER = "cache"
_READ_ONLY = ("archive-", "simple-", "wheels-")
"""Parts of a uv cache that uv only reads."""
_UV_HINT = "name this node's uv: --uv PATH"


def main(words: "Optional[Sequence[str]]" = None, *, bundle: str = os.curdir) -> int:
    """Print the folder for UV_CACHE_DIR; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python3 uv_cache.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--bundle", metavar="DIR", default=bundle, help="default: the folder of uv_cache.py"
    )
    parser.add_argument(
        "--uv",
        metavar="PATH",
        help="this node's uv (default: OFFLINE_BUNDLE_UV, uv on PATH, or that of the bundle)",
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        help="folder to create (default: one in the launcher's cache)",
    )
    options = parser.parse_args(words)
    try:
        print(make_cache(options.bundle, options.folder, options.uv))
    except BundleError as error:
        return print_error(error)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def make_cache(bundle: str, folder: "Optional[str]" = None, uv: "Optional[str]" = None) -> str:
    """Return the cache folder for *uv*, created or updated.

    Raises NotInBundleError if the bundle has no cache, or none for that version of uv.
    """
    opened = open_bundle(bundle)
    _check_version(opened, uv or os.environ.get("OFFLINE_BUNDLE_UV"))
    if folder is None:
        key = "\n".join([os.path.abspath(bundle), *opened.signers])
        name = sha256_of(os.fsencode(key))[:16]
        folder = os.path.join(cache_directory(), "uv-cache-" + name)
    folder = os.path.abspath(folder)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if may_be_in_force():
        _copy_named_files(opened, folder)
        return folder
    for name in sorted(os.listdir(os.path.join(bundle, FOLDER))):
        source = os.path.join(bundle, FOLDER, name)
        if name.startswith(_READ_ONLY) and os.path.isdir(source):
            _link_or_copy(source, os.path.join(folder, name))
    return folder


def _check_version(bundle: "TrustedBundle", uv: "Optional[str]") -> None:
    versions = sorted({lock.cache for _, _, lock in bundle.manifest.locks() if lock.cache})
    any_uv = f"UV_CONFIG_FILE={bundle.path('uv.toml')}"
    build = "on the connected side: build-offline-bundle SCRIPT -o DIR --format cache"
    if not versions:
        message = f"the bundle {bundle.folder} has no cache for uv"
        raise NotInBundleError(message, hint=f"{build}; or use its index: {any_uv}")
    bundled = {entry.version for entry in bundle.manifest.uv.values()}
    if uv is None and bundled & set(versions) and not find_program("uv"):
        return  # this node has none but that of the bundle, which filled the cache
    program, version = _find_uv(uv or "uv")
    if version not in versions:
        raise NotInBundleError(
            f"the cache in {bundle.folder} was filled by uv {' and '.join(versions)}; "
            f"{program} is uv {version}, which cannot use it",
            hint=f"{build} --uv-version {version}; or use the index, with any uv: {any_uv}",
        )


def _find_uv(uv: str) -> "tuple[str, str]":
    """Return the path of a uv and its version."""
    program = os.path.abspath(uv) if os.path.dirname(uv) else find_program(uv)
    if not program or not os.path.isfile(program) or not os.access(program, os.X_OK):
        raise NotInBundleError(f"there is no {uv} that can be run here", hint=_UV_HINT)
    result = subprocess.run([program, "--version"], capture_output=True, check=False)
    words = result.stdout.decode(errors="replace").split()
    if result.returncode or len(words) < 2 or words[0] != "uv":
        raise NotInBundleError(f"{program} is not uv", hint=_UV_HINT)
    return program, words[1]


def _copy_named_files(bundle: "TrustedBundle", folder: str) -> None:
    """Copy the cache's files that the manifest names, as they were checked, and no others.

    Under a signature policy, nothing may be used in the bundle itself, where others may change it.
    """
    for name, listed in bundle.manifest.files.items():
        top, _, relative = name.partition("/")
        if top != FOLDER or not relative.startswith(_READ_ONLY):
            continue
        root = os.path.join(folder, relative.partition("/")[0])
        if os.path.islink(root):  # made while there was no policy
            os.unlink(root)
        path = os.path.join(folder, *relative.split("/"))
        if not has_digest(path, listed.sha256):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            partial = _partial_path(path)
            bundle.copy(name, partial, mode=0o700 if listed.executable else 0o600)
            os.replace(partial, path)


def _link_or_copy(source: str, target: str) -> None:
    """Link to a part of the bundle's cache; where a link does not work, copy what is missing."""
    can_link = sys.platform != "win32" and _is_writable(source)
    if can_link and (os.path.islink(target) or not os.path.exists(target)):
        partial = _partial_path(target)
        os.symlink(os.path.abspath(source), partial)
        os.replace(partial, target)
        return
    is_index = os.path.basename(source).startswith("simple-")  # the only files that updates change
    for folder, _, names in os.walk(source):
        target_folder = os.path.join(target, os.path.relpath(folder, source))
        os.makedirs(target_folder, exist_ok=True)
        for name in names:
            path = os.path.join(target_folder, name)
            if is_index or not os.path.exists(path):
                partial = _partial_path(path)
                shutil.copyfile(os.path.join(folder, name), partial)
                os.replace(partial, path)


def _partial_path(path: str) -> str:
    return f"{path}.{os.urandom(6).hex()}.partial"


def _is_writable(source: str) -> bool:
    """Return whether the first file has a mode with which uv can use it.

    uv copies files with their mode, and writes into some of the copies.
    """
    for folder, _, names in os.walk(source):
        for name in names:
            return bool(os.stat(os.path.join(folder, name)).st_mode & 0o200)
    return True
