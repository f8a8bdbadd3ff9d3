"""What a cold start is going to prepare."""

import os
from dataclasses import dataclass

from ...disk.files import sha256_of
from ...disk.node_identity import node_identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from ...bundle.manifest import BundledLock
    from ...python.interpreters import Interpreter
    from ...python.platforms import Node
    from ..trusted_bundle import TrustedBundle


@dataclass(frozen=True)
class Plan:
    """One lock of the bundle, with one interpreter of this node."""

    bundle: "TrustedBundle"
    target: str
    lock: "BundledLock"
    node: "Node"
    interpreter: "Interpreter"
    ready_environment: "Optional[str]" = None
    """Folder of the environment that the bundle includes for the lock, to be used in place."""

    def key(self) -> str:
        """Return the name of the environment's folder.

        It is the same for the same lock, kind of node, interpreter and signers.
        """
        parts = [
            str(self.bundle.manifest.files[self.lock.lock].sha256),
            self.target,
            *node_identity(),
            self.interpreter.path,
            *self.bundle.signers,
        ]
        parts += [self.ready_environment] if self.ready_environment else []
        return sha256_of(os.fsencode("\n".join(parts)))[:32]
