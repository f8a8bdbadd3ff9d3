"""Scripts without metadata: built with requirements files, projects and locks, and run offline."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.headers.model import HeaderRequest
from offline_bundle.builder.inputs.targets import KNOWN_MINORS
from offline_bundle.builder.resolve.model import ResolveOptions
from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.runner.network import no_network_command
from offline_bundle.wheelhouse.runtime.errors import InputError, IntegrityError, OutOfDateError
from offline_bundle.wheelhouse.runtime.python.interpreters import find_interpreter
from tests.support.distributions import make_source_tree, make_wheel
from tests.support.pipeline_cases import HERE, TARGET, Factory, factory

if TYPE_CHECKING:
    from pathlib import Path

    from offline_bundle.builder.model import BuildReport

__all__ = ["factory"]

BODY = "import leaf\nprint('leaf', leaf.__file__ is not None)\n"


@pytest.fixture
def plain(factory: Factory, packages: Path) -> Path:
    """A script without metadata, and versions of the package that it imports."""
    for version in ("1.0", "2.0"):
        make_wheel(packages, "leaf", version)
    make_wheel(packages, "other")
    path = factory.folder / "job.py"
    path.write_text(f"#!/usr/bin/env python3\n{BODY}")
    return path


def build(factory: Factory, *scripts: Path, **changes: object) -> BuildReport:
    return factory.build(*scripts, python_versions=(HERE,), **changes)


def versions(factory: Factory) -> dict[str, str]:
    packages = factory.manifest.scripts["job"].locks[TARGET].packages
    return {name: package.version for name, package in packages.items()}


def test_requirements_file_replaces_the_header(factory: Factory, plain: Path) -> None:
    (factory.folder / "more.txt").write_text("other  # comment\n")
    (factory.folder / "limits.txt").write_text("leaf<2\n")
    requirements = factory.folder / "requirements.txt"
    requirements.write_text("leaf\n-r more.txt\n-c limits.txt\n")
    header = HeaderRequest(requirements=(requirements,))
    build(factory, plain, header=header)
    assert versions(factory) == {"leaf": "1.0", "other": "1.0"}
    bundled = (factory.bundle / "scripts/job.py").read_text()
    assert bundled.startswith("#!/usr/bin/env python3\n# /// script\n# dependencies = [")
    assert bundled.endswith(BODY)
    assert plain.read_text() == f"#!/usr/bin/env python3\n{BODY}", "the user's file is not changed"
    assert not build(factory, plain, header=header).changed
    # the launcher takes the metadata of the bundle's script of this name
    done = subprocess.run(
        [sys.executable, factory.bundle / "run.py", "-q", plain],
        capture_output=True, text=True, check=False, env=offline(factory),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "leaf True\n"), done.stderr
    other = plain.with_name("unknown.py")
    other.write_text(BODY)
    done = subprocess.run(
        [sys.executable, factory.bundle / "run.py", "-q", other],
        capture_output=True, text=True, check=False, env=offline(factory),
    )  # fmt: skip
    assert done.returncode == 2
    assert "the bundle has no script of this name" in done.stderr


def offline(factory: Factory) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "OFFLINE_BUNDLE_CACHE": str(factory.folder / "node-cache"),
        "OFFLINE_BUNDLE_UV": find_uv(),
    }


def test_hashes_of_a_requirements_file_must_match(
    factory: Factory, plain: Path, packages: Path
) -> None:
    wheel = next(packages.glob("leaf-1.0-*.whl"))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    requirements = factory.folder / "requirements.txt"
    requirements.write_text(f"leaf==1.0 \\\n    --hash=sha256:{digest}\n")
    header = HeaderRequest(requirements=(requirements,))
    build(factory, plain, header=header)
    requirements.write_text(f"leaf==1.0 --hash=sha256:{'0' * 64}\n")
    text = factory.fails(IntegrityError, plain, header=header)
    assert f"its sha256 {digest} is not in the file" in text


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("--index-url https://me:secret@index.example/simple\n", "the URL contains a password"),
        ("leaf\n--process-dependency-links\n", "requirements.txt:2: the option"),
        ("leaf ==== 1\n", "the requirements cannot be used"),
        ("-r nosuch.txt\n", "nosuch.txt cannot be read"),
    ],
)
def test_requirements_that_cannot_be_used_are_named(
    lines: str, expected: str, factory: Factory, plain: Path
) -> None:
    requirements = factory.folder / "requirements.txt"
    requirements.write_text(lines)
    text = factory.fails(InputError, plain, header=HeaderRequest(requirements=(requirements,)))
    assert expected in text
    assert "secret" not in text


def test_index_of_a_requirements_file_is_used(
    factory: Factory, plain: Path, tmp_path: Path
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    make_wheel(links, "leaf", "3.0")
    requirements = factory.folder / "requirements.txt"
    requirements.write_text("leaf\n--find-links links\n--pre\n")
    build(factory, plain, header=HeaderRequest(requirements=(requirements,)))
    assert versions(factory) == {"leaf": "3.0"}
    assert str(tmp_path) not in (factory.bundle / "scripts/job.py").read_text()


def test_project_with_groups_and_its_lock_replaces_the_header(
    factory: Factory, plain: Path
) -> None:
    project = factory.folder / "pyproject.toml"
    project.write_text(
        '[project]\nname = "study"\nversion = "1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["leaf<2"]\n'
        '[dependency-groups]\nplots = [{include-group = "base"}]\nbase = ["other"]\n'
    )
    header = HeaderRequest(project=project)
    build(factory, plain, header=header)
    assert versions(factory) == {"leaf": "1.0"}
    with_group = HeaderRequest(project=factory.folder, groups=("plots",))
    build(factory, plain, header=with_group)
    assert versions(factory) == {"leaf": "1.0", "other": "1.0"}
    text = factory.fails(InputError, plain, header=HeaderRequest(project=project, groups=("x",)))
    assert "its groups: plots, base" in text

    project.write_text(project.read_text().replace("leaf<2", "leaf"))
    lock = [find_uv(), "lock", "--directory", factory.folder, "--default-index", factory.index.url]
    subprocess.run([*lock, "--upgrade-package", "leaf==1.0"], check=True, capture_output=True)
    report = build(factory, plain, header=header)
    assert versions(factory) == {"leaf": "1.0"}
    assert "the versions are those of uv.lock of the project" in report.notes
    project.write_text(project.read_text().replace('"leaf"', '"leaf", "other"'))
    report = build(factory, plain, header=header)
    assert any("out of date and not used" in note for note in report.notes)
    text = factory.fails(OutOfDateError, plain, header=header, is_locked=True)
    assert "uv.lock is out of date" in text


def test_lock_of_a_project_is_read_by_an_interpreter_that_it_admits(
    factory: Factory, plain: Path
) -> None:
    others = [minor for minor in KNOWN_MINORS if minor != HERE]
    other = next((m for m in others if find_interpreter((3, int(m[2:])))), None)
    if other is None:
        pytest.skip(f"no other Python than {HERE} is installed")
    (factory.folder / "pyproject.toml").write_text(
        f'[project]\nname = "study"\nversion = "1"\nrequires-python = "=={other}.*"\n'
        'dependencies = ["leaf<2"]\n'
    )
    lock = [find_uv(), "lock", "--directory", factory.folder, "--default-index", factory.index.url]
    python = find_interpreter((3, int(other[2:])))
    subprocess.run([*lock, "--python", python], check=True, capture_output=True)
    report = factory.build(plain, header=HeaderRequest(project=factory.folder))
    assert "the versions are those of uv.lock of the project" in report.notes


def test_project_that_is_a_package_is_in_the_bundle(
    factory: Factory, plain: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "mine"
    make_source_tree(tree, "mine", requires=["leaf<2"], declared=["leaf<2"])
    plain.write_text("import mine\n")
    report = build(factory, plain, header=HeaderRequest(project=tree))
    assert versions(factory) == {"leaf": "1.0", "mine": "1.0"}
    assert report.built == ("mine-1.0-py3-none-any.whl",)
    assert str(tmp_path) not in (factory.bundle / "scripts/job.py").read_text()


def test_pylock_replaces_the_header_and_its_hashes_must_match(
    factory: Factory, plain: Path
) -> None:
    pylock = factory.folder / "pylock.toml"
    (factory.folder / "in.txt").write_text("leaf<2\nother\n")
    compile_lock = [
        find_uv(),
        "pip",
        "compile",
        "in.txt",
        "--format",
        "pylock.toml",
        "-o",
        "pylock.toml",
    ]
    subprocess.run(
        [*compile_lock, "--default-index", factory.index.url],
        cwd=factory.folder, check=True, capture_output=True,
    )  # fmt: skip
    header = HeaderRequest(pylock=pylock)
    build(factory, plain, header=header)
    assert versions(factory) == {"leaf": "1.0", "other": "1.0"}
    text = pylock.read_text()
    digest = factory.manifest.files["wheels/leaf-1.0-py3-none-any.whl"].sha256 or ""
    pylock.write_text(text.replace(digest, "0" * 64))
    assert "leaf-1.0" in factory.fails(IntegrityError, plain, header=header)
    pylock.write_text("lock-version = '9.0'\n")
    assert "is not a lock file (PEP 751)" in factory.fails(InputError, plain, header=header)
    pylock.write_text("lock-version = 'https://user:s3cr3t@host/'\n")
    assert "'https://host/'" in factory.fails(InputError, plain, header=header)


def test_files_for_a_header_need_a_script_without_one(factory: Factory, plain: Path) -> None:
    requirements = factory.folder / "requirements.txt"
    requirements.write_text("leaf\n")
    header = HeaderRequest(requirements=(requirements,))
    text = factory.fails(InputError, factory.script("leaf", name="mine"), header=header)
    assert "are for scripts without metadata" in text
    factory.build(factory.script("leaf", name="mine"), plain, header=header)
    assert set(factory.manifest.scripts) == {"mine", "job"}


@pytest.mark.registry
@pytest.mark.slow
def test_notebook_runs_offline_and_keeps_its_outputs(factory: Factory) -> None:
    cells = ["# /// script\n# dependencies = []\n# ///", "print('sum', 1 + 2)", "1 / 0"]
    notebook = factory.folder / "study.ipynb"
    notebook.write_text(
        json.dumps(
            {
                "cells": [
                    {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": text}
                    | {"execution_count": None, "outputs": []}
                    for n, text in enumerate(cells)
                ],
                "metadata": {},
                "nbformat": 4,
                "nbformat_minor": 5,
            }
        )
    )
    before = notebook.read_bytes()
    command = [sys.executable, str(factory.bundle / "run.py"), str(notebook)]
    build(factory, notebook, options=ResolveOptions())
    script = factory.bundle / "scripts" / "study.py"
    done = subprocess.run(
        no_network_command([sys.executable, str(factory.bundle / "run.py"), "-q", str(script)]),
        cwd=factory.folder, capture_output=True, text=True, check=False, env=offline(factory),
    )  # fmt: skip
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    wrong = subprocess.run(
        command, capture_output=True, text=True, check=False, env=offline(factory)
    )
    assert wrong.returncode == 2
    assert (
        f"is a notebook: the bundle has a script that runs it\nhint: start that script: {script}"
        in (wrong.stderr)
    )
    executed = json.loads((factory.folder / "study-executed.ipynb").read_text())
    assert executed["cells"][1]["outputs"][0]["text"] == ["sum 3\n"]
    assert notebook.read_bytes() == before
    assert not list(factory.folder.glob("kernel*"))
