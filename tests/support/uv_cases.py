from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.fetch.credentials import Credentials
from offline_bundle.builder.inputs.scripts import read_script
from offline_bundle.builder.inputs.targets import make_target
from offline_bundle.builder.resolve.model import Resolution, ResolveOptions
from offline_bundle.builder.resolve.uv import UvResolver
from offline_bundle.builder.resolve.uv_process import find_uv

if TYPE_CHECKING:
    from pathlib import Path

    from offline_bundle.wheelhouse.runtime.errors import BundleError
    from tests.support.index_server import IndexServer


class Workshop:
    """A folder with a script in it, and what resolves it."""

    def __init__(self, folder: Path, index: IndexServer) -> None:
        self.folder = folder
        self.index = index

    def script(self, *dependencies: str, tool: str = "", python: str = ">=3.11") -> Path:
        header = [
            f'requires-python = "{python}"',
            f"dependencies = {list(dependencies)!r}",
            *tool.splitlines(),
        ]
        path = self.folder / "job.py"
        path.write_text(
            "# /// script\n" + "".join(f"# {line}".rstrip() + "\n" for line in header) + "# ///\n"
        )
        return path

    def resolve(
        self,
        path: Path,
        *,
        platform: str = "x86_64-manylinux_2_28",
        default: bool = True,
        **options: object,
    ) -> Resolution:
        if default:
            options.setdefault("default_index", self.index.url)
        resolver = self.resolver(**options)
        return resolver.resolve(read_script(path), make_target("3.12", platform))

    def resolver(self, **options: object) -> UvResolver:
        allow = frozenset(options.pop("allow", ()))  # type: ignore[call-overload]
        return UvResolver(find_uv(), ResolveOptions(allow_build=allow, **options), Credentials())  # type: ignore[arg-type]

    def fails(self, path: Path, kind: type[BundleError], **options: object) -> str:
        with pytest.raises(kind) as caught:
            self.resolve(path, **options)  # type: ignore[arg-type]
        return f"{caught.value}\n{caught.value.hint}"


@pytest.fixture
def workshop(tmp_path: Path, index: IndexServer) -> Workshop:
    return Workshop(tmp_path, index)


def trap(folder: Path) -> str:
    """Code that leaves a trace when it runs."""
    return f"open({str(folder / 'it-ran')!r}, 'w').close()"


def make_repository(folder: Path) -> Path:
    """Commit *folder* as a git repository."""
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@example.invalid"]
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        [*identity, "commit", "--quiet", "--message", "first"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder
