from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from offline_bundle.builder.inputs.imports import imported_modules
from offline_bundle.builder.inputs.notebooks import (
    has_metadata_cell,
    is_notebook,
    notebook_code,
    notebook_script,
)
from offline_bundle.wheelhouse.runtime.python.pep723 import MetadataError, read_block

HEADER = '# /// script\n# requires-python = ">=3.11"\n# dependencies = ["numpy"]\n# ///'


def notebook(*sources: str | list[str], **more: Any) -> bytes:  # noqa: ANN401 - any JSON
    """A notebook with code cells, the first hidden as juv writes it."""
    cells = [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "metadata": {"jupyter": {"source_hidden": True}} if number == 0 else {},
            "execution_count": None,
            "outputs": [],
            "source": source,
        }
        for number, source in enumerate(sources)
    ]
    return json.dumps(
        {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **more}
    ).encode()


def test_notebook_with_a_metadata_cell_becomes_a_script_that_runs_it() -> None:
    source = notebook([f"{line}\n" for line in HEADER.splitlines()], "print('# /// script')")
    script = notebook_script("study.ipynb", source)
    assert script is not None
    text = script.decode()
    compile(text, "study.py", "exec")
    metadata = tomllib.loads(read_block(text) or "")
    assert metadata == {
        "requires-python": ">=3.11",
        "dependencies": ["numpy", "ipykernel", "nbclient"],
    }
    assert text.count("# /// script") == 1
    names: dict[str, Any] = {}
    line = next(line for line in text.splitlines() if line.startswith("NOTEBOOK = "))
    exec(line, names)
    assert json.loads(names["NOTEBOOK"]) == json.loads(source)


def test_runners_that_a_notebook_names_are_not_added_again() -> None:
    header = '# /// script\n# dependencies = ["ipykernel>=6 ; python_version > \'3\'", "NbClient"]\n# ///'
    script = notebook_script("a.ipynb", notebook(header))
    assert script
    assert tomllib.loads(read_block(script.decode()) or "")["dependencies"] == [
        "ipykernel>=6 ; python_version > '3'",
        "NbClient",
    ]


@pytest.mark.parametrize(
    "source",
    [b"{}", b"[]", b"no JSON", b'{"cells": 1}', b'{"cells": [1, {}]}', notebook("import numpy")],
)
def test_other_files_have_no_metadata_cell(source: bytes) -> None:
    assert not has_metadata_cell(source)
    assert notebook_script("a.ipynb", source) is None


def test_code_of_a_notebook_is_that_of_its_cells_without_commands() -> None:
    source = notebook("import numpy\n%matplotlib inline", ["!pip list\n", "import yaml"])
    assert set(imported_modules(notebook_code(source))) == {"numpy", "yaml"}


def test_notebooks_are_recognized_by_their_cells() -> None:
    assert is_notebook(notebook("1"))
    assert not is_notebook(b'{"cells": []}')


def test_metadata_cell_that_does_not_end_is_an_error() -> None:
    with pytest.raises(MetadataError):
        notebook_script("a.ipynb", notebook("# /// script\n# dependencies = []\n"))
