"""Notebooks with a PEP 723 block in a code cell, as juv writes it (https://github.com/manzt/juv).

A notebook becomes a script that runs it with nbclient and writes `NAME-executed.ipynb`, with the
outputs, to the working folder.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import tomli_w
from packaging.utils import canonicalize_name

from offline_bundle.wheelhouse.runtime.python.pep723 import OPENING, read_block

_RUNNERS = ("ipykernel", "nbclient")
"""Packages that run a notebook; they are added to its dependencies."""
_PROGRAM = '''\
"""Run the notebook {name}, which is included, and write {output} with its outputs."""

import tempfile

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOK = {text}

notebook = nbformat.reads(NOTEBOOK, as_version=4)
with tempfile.TemporaryDirectory() as sockets:  # a port would be open to other users
    kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{{sockets}}/kernel")
    try:
        NotebookClient(notebook, km=kernel, timeout=None).execute()
    finally:
        nbformat.write(notebook, {output})
'''


def is_notebook(source: bytes) -> bool:
    """Return whether *source* is a notebook."""
    return next(_code_cells(source), None) is not None


def has_metadata_cell(source: bytes) -> bool:
    """Return whether a code cell of the notebook opens a metadata block."""
    return any(OPENING in text for text in _code_cells(source))


def notebook_code(source: bytes) -> bytes:
    """Return the code of all cells, without the commands of IPython (`%matplotlib`, `!ls`)."""
    lines = "\n".join(_code_cells(source)).split("\n")
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!"))).encode()


def notebook_script(name: str, source: bytes) -> bytes | None:
    """Return the script that runs the notebook *name*; None if no cell has a block.

    Raises MetadataError for a block that is not closed, and ValueError for invalid TOML.
    """
    cell = next((text for text in _code_cells(source) if OPENING in text), None)
    block = read_block(cell) if cell else None
    if block is None:
        return None
    metadata = tomllib.loads(block)
    dependencies = metadata.get("dependencies")
    if isinstance(dependencies, list):
        metadata["dependencies"] = [*dependencies, *_missing_runners(dependencies)]
    lines = [f"# {line}".rstrip() for line in tomli_w.dumps(metadata).splitlines()]
    # a second opening in the text would be one for `uv run`
    text = repr(source.decode()).replace(OPENING, "\\x23" + OPENING[1:])
    output = repr(f"{name.removesuffix('.ipynb')}-executed.ipynb")
    program = _PROGRAM.format(name=repr(name), output=output, text=text)
    return "\n".join([OPENING, *lines, "# ///", program]).encode()


def _missing_runners(dependencies: list[Any]) -> Iterator[str]:
    names = {canonicalize_name(_name(text)) for text in dependencies if isinstance(text, str)}
    return (name for name in _RUNNERS if name not in names)


def _name(requirement: str) -> str:
    name = requirement.strip()
    for character in " [;@<>=!~(":
        name = name.partition(character)[0]
    return name


def _code_cells(source: bytes) -> Iterator[str]:
    try:
        cells = json.loads(source).get("cells", [])
    except (ValueError, AttributeError, RecursionError):
        return
    for cell in cells if isinstance(cells, list) else ():
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            text = cell.get("source", "")
            yield "".join(text) if isinstance(text, list) else str(text)
