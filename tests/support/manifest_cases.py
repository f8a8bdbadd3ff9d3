from __future__ import annotations

import hashlib
from dataclasses import replace

from offline_bundle.wheelhouse.runtime.bundle.manifest import (
    BundledFile,
    BundledLock,
    BundledPackage,
    BundledScript,
    BundledTarget,
    BundledUv,
    Manifest,
    Source,
)

DIGEST = hashlib.sha256(b"").hexdigest()


TARGET = "cp312-x86_64-manylinux_2_28"


WHEEL = "wheels/numpy-2.5.5-cp312-cp312-manylinux_2_28_x86_64.whl"


LOCK = f"locks/eval/pylock.{TARGET}.toml"


REQUIREMENTS = f"locks/eval/requirements-{TARGET}.txt"


def whole_manifest() -> Manifest:
    lock = BundledLock(
        lock=LOCK,
        requirements=REQUIREMENTS,
        libc="2.28",
        packages={"numpy": BundledPackage(version="2.5.5", wheel=WHEEL)},
        cache="0.13.9",
        environment="envs/eval",
        image="images/eval.squashfs",
    )
    script = BundledScript(
        path="scripts/eval.py",
        block=DIGEST,
        dependencies=("numpy", "matplotlib>=3"),
        requires_python="==3.12",
        settings=DIGEST,
        locks={TARGET: lock},
    )
    plain = BundledFile(sha256=DIGEST, size=0)
    wheel = BundledFile(
        sha256=DIGEST,
        size=12,
        name="numpy",
        version="2.5.5",
        requires_python=">=3.12",
        upload_time="2026-11-15T21:30:21.123456Z",
        yanked="",
        source=Source(
            index="https://index.test/simple", url="https://files.test/numpy.whl", built_from=DIGEST
        ),
        needed_by=(f"eval/{TARGET}",),
    )
    return Manifest(
        created_by="offline-bundle 0.1.0",
        timestamp="2026-11-15T21:30:21Z",
        scripts={"eval": script},
        targets={TARGET: BundledTarget(python="3.12", platform="x86_64-manylinux_2_28")},
        uv={
            "x86_64-manylinux_2_17": BundledUv(version="0.13.9", path="uv/x86_64-manylinux_2_17/uv")
        },
        files={
            "SHA256SUMS": BundledFile(sha256=None, size=None),
            "uv/x86_64-manylinux_2_17/uv": plain,
            "scripts/eval.py": plain,
            "envs/eval/pyvenv.cfg": replace(plain, executable=True),
            "images/eval.squashfs": plain,
            WHEEL: wheel,
            LOCK: plain,
            REQUIREMENTS: plain,
        },
    )
