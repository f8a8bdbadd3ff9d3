from __future__ import annotations

from pathlib import Path

import pytest

from offline_bundle.builder.inputs.scripts import read_script
from offline_bundle.builder.inputs.search import find_scripts
from offline_bundle.wheelhouse.runtime.errors import InputError

HEADER = "# /// script\n# dependencies = []\n# ///\n"


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = Path("studies")
    (folder / "deep").mkdir(parents=True)
    (folder / "a.py").write_text(HEADER)
    (folder / "b.py").write_text(HEADER)
    (folder / "helper.py").write_text("print()\n")
    (folder / "values.csv").write_text("a\n")
    (folder / "deep" / "c.py").write_text(HEADER)
    return folder


def test_folder_selects_its_scripts_and_lists_the_others(studies: Path) -> None:
    found = find_scripts([studies])
    assert found.scripts == (studies / "a.py", studies / "b.py")
    assert found.notes == ["no metadata, left out: studies/helper.py"]


def test_pattern_selects_what_it_matches(studies: Path) -> None:
    assert find_scripts([Path("studies/**/*.py")]).scripts == (
        studies / "a.py",
        studies / "b.py",
        studies / "deep/c.py",
    )
    absolute = (studies / "[ab].py").absolute()
    assert [path.name for path in find_scripts([absolute]).scripts] == ["a.py", "b.py"]


def test_named_files_are_kept_as_they_are(studies: Path) -> None:
    (studies / "odd[1].py").write_text(HEADER)
    named = [studies / "helper.py", studies / "a.py", studies / "odd[1].py", Path("nosuch.py")]
    assert find_scripts(named).scripts == tuple(named)
    assert find_scripts([studies / "a.py", studies]).scripts[0] == studies / "a.py"
    twice = [Path("studies/a.py"), Path("studies/../studies/a.py"), studies.absolute() / "a.py"]
    assert find_scripts(twice).scripts == (Path("studies/a.py"),)


def test_misspelt_header_in_a_folder_is_an_error_and_not_left_out(studies: Path) -> None:
    (studies / "helper.py").write_text("# /// scirpt\n# dependencies = []\n# ///\n")
    assert studies / "helper.py" in find_scripts([studies]).scripts


def test_folder_without_scripts_names_what_is_in_it(studies: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (studies / "a.py").unlink()
    (studies / "b.py").unlink()
    with pytest.raises(InputError) as caught:
        find_scripts([studies, Path("empty"), Path("none/*.py")])
    assert caught.value.problems == (
        "studies: none of these files has metadata: helper.py",
        "empty: no *.py or *.ipynb file",
        "none/*.py: no *.py or *.ipynb file",
    )


def test_bundle_in_place_of_a_script_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(InputError, match="is a bundle"):
        find_scripts([tmp_path])


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("requirements.txt", "numpy\n", "--requirements requirements.txt"),
        ("requirements-dev.in", "numpy\n", "--requirements requirements-dev.in"),
        ("pyproject.toml", "", "--project pyproject.toml"),
        ("pylock.eval.toml", "", "--pylock pylock.eval.toml"),
        ("uv.lock", "", "a lock of uv"),
        ("eval.py.lock", "", "a lock of uv"),
        ("bundle.tar", "x", "an archive"),
        ("numpy-2.0-py3-none-any.whl", "x", "an archive"),
        (
            "environment.yml",
            "name: x\ndependencies:\n- python=3.12\n- conda-forge::numpy>=2\n- pip\n- pip:\n  - rich==14\n",
            "uv add --script SCRIPT numpy rich",
        ),
        ("config.yaml", "a: 1\n", "a YAML file"),
        ("broken.yml", "a: [", "a YAML file"),
        ("study.ipynb", '{"cells": []}', "uvx juv add study.ipynb PACKAGE"),
        ("job.sh", "#!/bin/bash\necho\n", "a shell script"),
    ],
)
def test_other_files_are_named_with_the_command_that_helps(
    name: str, text: str, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_script(path)
    [problem] = caught.value.problems
    assert problem.startswith((f"{path}: a", f"{path}: the file of"))
    assert expected in problem


def test_script_without_metadata_gets_the_command_that_adds_it(tmp_path: Path) -> None:
    path = tmp_path / "eval.py"
    path.write_text("import numpy as np\nfrom sklearn import svm\nimport os\n")
    with pytest.raises(InputError) as caught:
        read_script(path)
    [problem] = caught.value.problems
    assert problem.endswith(f"add it: uv add --script {path} numpy scikit-learn")
