"""A site with a signature policy that names a reviewed launcher, and a bundle forged against it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.store import shipped
from tests.support.signing_cases import allowing, make_key, public

if TYPE_CHECKING:
    from pathlib import Path

FORGED = "forged code ran"


def make_site(folder: Path) -> Path:
    """Write launcher, unpacker, a key `alice` and a policy that allows it; return the policy."""
    files = shipped.bundle_files(with_cache=False, with_pythons=False)
    for path, content in {**files, "unpack.py": shipped.unpacker()}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    make_key(folder / "alice")
    allowing(folder, f"alice {public(folder / 'alice')}")
    entries = {"allowed-signers": "allowed_signers", "signer": "alice", "launcher": "run.py"}
    policy = folder / "policy.json"
    policy.write_text(json.dumps(entries))
    return policy


def forge(bundle: Path) -> None:
    """Make the bundle start code of an attacker, whatever it is asked for."""
    for path in [bundle / "run.py", bundle / "run.sh", *(bundle / "runtime").rglob("*.py")]:
        path.write_text(f"print({FORGED!r})\n")
