"""Real wheels and sdists made on the fly: small, valid, and the same bytes every time."""

from __future__ import annotations

import base64
import hashlib
import shutil
import tarfile
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    requires_python: str | None = None,
    tag: str = "py3-none-any",
    files: Mapping[str, str] | None = None,
    entry_points: str | None = None,
    padding: int = 0,
) -> Path:
    """Write NAME-VERSION-TAG.whl into *folder*; its module NAME has `VERSION`.

    *padding* adds that many bytes.
    """
    module = name.replace("-", "_").replace(".", "_")
    info = f"{module}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Python: {requires_python}"] if requires_python else []
    extras = sorted(
        {
            part.split("'")[1]
            for part in requires
            if "extra ==" in part
            for part in [part.split("extra ==")[1]]
        }
    )
    metadata += [f"Provides-Extra: {extra}" for extra in extras]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    content = {f"{module}.py": f"VERSION = {version!r}\n", **(files or {})}
    if padding:
        content[f"{module}_ballast.bin"] = "x" * padding
    content[f"{info}/METADATA"] = "\n".join(metadata) + "\n"
    content[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
    )
    if entry_points:
        content[f"{info}/entry_points.txt"] = entry_points
    record = [
        f"{path},sha256={_record_digest(text)},{len(text.encode())}"
        for path, text in content.items()
    ]
    content[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in content.items():
            archive.writestr(zipfile.ZipInfo(path, _EPOCH), text)
    return wheel


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _record_digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


_BACKEND = """
import base64, hashlib, os, zipfile
NAME, VERSION, REQUIRES, TAG = {name!r}, {version!r}, {requires!r}, {tag!r}
{code}
def _metadata():
    lines = ["Metadata-Version: 2.1", "Name: " + NAME, "Version: " + VERSION]
    return "\\n".join(lines + ["Requires-Dist: " + text for text in REQUIRES]) + "\\n"
def build_wheel(folder, config_settings=None, metadata_directory=None):
    module = NAME.replace("-", "_")
    info = module + "-" + VERSION + ".dist-info"
    wheel = "Wheel-Version: 1.0\\nGenerator: tests\\nRoot-Is-Purelib: true\\nTag: " + TAG + "\\n"
    content = {{module + ".py": open(module + ".py").read(), info + "/METADATA": _metadata(),
               info + "/WHEEL": wheel}}
    digest = lambda text: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    rows = [path + ",sha256=" + digest(text).decode().rstrip("=") + "," + str(len(text.encode()))
            for path, text in content.items()]
    content[info + "/RECORD"] = "\\n".join(rows + [info + "/RECORD,,"]) + "\\n"
    wheel = module + "-" + VERSION + "-" + TAG + ".whl"
    with zipfile.ZipFile(os.path.join(folder, wheel), "w") as archive:
        for path, text in content.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), text)
    return wheel
"""


def make_source_tree(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    declared: Sequence[str] | None = None,
    code: str = "",
    tag: str = "py3-none-any",
) -> Path:
    """Write a project with a build backend of its own: it builds with nothing from any index.

    *code* runs when the backend is loaded. With *declared*, `[project]` has these dependencies
    statically, and the *requires* that the build writes may differ. Without, metadata needs the
    backend.
    """
    module = name.replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(f"VERSION = {version!r}\n")
    values = {
        "name": name,
        "version": version,
        "requires": list(requires),
        "tag": tag,
        "code": code,
    }
    (folder / "backend.py").write_text(_BACKEND.format(**values))
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    if declared is not None:
        project = (
            f'[project]\nname = "{name}"\nversion = "{version}"\n'
            f"dependencies = {list(declared)!r}\n" + project
        )
    (folder / "pyproject.toml").write_text(project)
    return folder


def make_buildable_sdist(folder: Path, name: str, version: str = "1.0", **options: object) -> Path:
    """The same as an sdist NAME-VERSION.tar.gz in *folder*."""
    tree = make_source_tree(folder / ".trees" / name, name, version, **options)  # type: ignore[arg-type]
    sdist = pack_sdist(tree, folder, name, version, declared=options.get("declared"))
    shutil.rmtree(folder / ".trees")
    return sdist


def pack_sdist(
    tree: Path, folder: Path, name: str, version: str = "1.0", declared: object = None
) -> Path:
    """Pack a source tree as NAME-VERSION.tar.gz in *folder*."""
    module = name.replace("-", "_")
    metadata_version = "2.1" if declared is None else "2.2"
    package_info = f"Metadata-Version: {metadata_version}\nName: {name}\nVersion: {version}\n"
    if isinstance(declared, list | tuple):
        package_info += "".join(f"Requires-Dist: {requirement}\n" for requirement in declared)
    (tree / "PKG-INFO").write_text(package_info)
    sdist = folder / f"{module}-{version}.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        for path in sorted(tree.iterdir()):
            member = tarfile.TarInfo(f"{module}-{version}/{path.name}")
            member.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(member, file)
    return sdist
