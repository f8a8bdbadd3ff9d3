"""What a cold start is going to prepare."""

import os
from dataclasses import dataclass

from ...bytecode import bytecode_path
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
    image: "Optional[str]" = None
    """Path in the bundle of the image of that environment."""
    is_mounted: bool = False
    """Whether the image is mounted on this node, not unpacked."""

    def key(self) -> str:
        """Return the name of the environment's folder.

        It is the same for the same content, kind of node, interpreter and signers.
        """
        files = self.bundle.manifest.files
        content = [self.lock.lock, *self.bytecode()]
        parts = [self.target, *node_identity(), self.interpreter.path, *self.bundle.signers]
        if self.ready_environment:
            parts.append(self.ready_environment)
            content += [name for name in files if name.startswith(f"{self.lock.environment}/")]
        if self.image:
            parts.append("mounted" if self.is_mounted else "unpacked")
            content.append(self.image)
        parts += [f"{files[name].sha256} {name}" for name in sorted(content)]
        return sha256_of(os.fsencode("\n".join(parts)))[:32]

    def bytecode(self) -> "list[str]":
        """Return the bytecode files of the lock; none unless the bundle has that of every wheel.

        With a part of them, a module that two wheels install could get the bytecode of the wrong
        one.
        """
        manifest = self.bundle.manifest
        python = manifest.targets[self.target].python
        wheels = sorted({package.wheel for package in self.lock.packages.values()})
        paths = [bytecode_path(wheel, python) for wheel in wheels]
        return paths if all(path in manifest.files for path in paths) else []
