r"""The modules that a script imports, and the packages that probably have them. Pure.

>>> imported_modules(b"import numpy.linalg\nfrom PIL import Image\n")
{'numpy.linalg': 1, 'PIL': 2}
>>> likely_package("PIL")
'pillow'
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterable, Iterator

# Modules whose package has another name.
_PACKAGES = {
    "Bio": "biopython",
    "Crypto": "pycryptodome",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "git": "gitpython",
    "google.protobuf": "protobuf",
    "jwt": "pyjwt",
    "mpl_toolkits": "matplotlib",
    "osgeo": "gdal",
    "pkg_resources": "setuptools",
    "pptx": "python-pptx",
    "pylab": "matplotlib",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
    "usb": "pyusb",
    "vtkmodules": "vtk",
    "win32api": "pywin32",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
_STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)
_IMPORT_ERRORS = {"BaseException", "Exception", "ImportError", "ModuleNotFoundError"}


def imported_modules(source: bytes) -> dict[str, int]:
    """Return each module that *source* imports, and its first line.

    Left out: modules of the standard library, what a `try` handles the absence of, and what only
    type checkers import. Empty for source that this Python cannot parse.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the script, such as "\\d": its user sees them
            tree = ast.parse(source)
        found = sorted(_imports(tree), key=lambda pair: pair[1])
    except (SyntaxError, ValueError, RecursionError):
        return {}
    modules: dict[str, int] = {}
    for module, line in found:
        if module.partition(".")[0] not in sys.stdlib_module_names | {"__main__"}:
            modules.setdefault(module, line)
    return modules


def likely_package(module: str) -> str | None:
    """Return the package that is known to have *module* under another name, or None."""
    names = module.split(".")
    for name in (".".join(names[:2]), names[0]):
        if name in _PACKAGES:
            return _PACKAGES[name]
    # PyAnsys: all packages share the namespace `ansys`
    return "-".join(names[:3]) if names[0] == "ansys" and len(names) > 2 else None


def _imports(node: ast.AST) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.Import):
        yield from ((name.name, node.lineno) for name in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module, node.lineno
    for child in _executed(node):
        if isinstance(child, _STATEMENTS):  # imports are in no expression
            yield from _imports(child)


def _executed(node: ast.AST) -> Iterable[ast.AST]:
    """Return the children of *node* that run, and whose failure to import is not handled."""
    if isinstance(node, ast.Try) and any(map(_handles_imports, node.handlers)):
        return [*node.handlers, *node.orelse, *node.finalbody]
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return node.orelse
    return ast.iter_child_nodes(node)


def _handles_imports(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type
    if kinds is None:
        return True
    names = kinds.elts if isinstance(kinds, ast.Tuple) else [kinds]
    return any(isinstance(name, ast.Name) and name.id in _IMPORT_ERRORS for name in names)
