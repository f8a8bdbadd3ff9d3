"""Every test has a home, caches and a configuration of its own; only interpreters are those of the
machine.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from offline_bundle.wheelhouse.store.writer import BundleWriter
from tests.support import programs
from tests.support.index_server import IndexServer
from tests.support.machine import require_network_namespace
from tests.support.schema import is_valid_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

# A shell that starts pytest in the background has it ignore Ctrl-C, and programs that tests start
# would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Nor is every process that a test starts to compile all modules anew, as it would where a container
# image says so.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# A busy machine takes longer than Hypothesis allows an example by default.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

_DROPPED = ("UV_", "PIP_", "XDG_", "OFFLINE_BUNDLE", "SOURCE_DATE_EPOCH", "VIRTUAL_ENV", "NETRC")
_COVERAGE = "COVERAGE_PROCESS"
_LONGEST = (
    "tests/e2e/test_end_to_end.py",
    "tests/integration/wheelhouse/runtime/test_launcher.py",
    "tests/integration/wheelhouse/runtime/test_unpack.py",
    "tests/integration/runner/engines/test_slurm_engine.py",
    "tests/integration/test_front_door.py",
    "tests/integration/runner/cli/test_submit_command.py",
    "tests/integration/ci/test_prebake.py",
    "tests/integration/builder/test_pipeline.py",
    "tests/integration/wheelhouse/derived/test_simple_index.py",
    "tests/integration/wheelhouse/transport/test_pack_unpack.py",
    "tests/integration/runner/hps_server/test_evaluator.py",
)
"""The files that take longest, which come first: whichever came last would have one core to itself.
"""


def pytest_configure(config: pytest.Config) -> None:
    """Keep pytest-xdist to our order; its own begins with the files that have most tests, not the
    longest.
    """
    config.option.loadscopereorder = False
    config.addinivalue_line("markers", "no_network: cuts the network of a program that it starts")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("no_network"):
        require_network_namespace()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {Path(__file__).parents[1] / name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    summary = programs.summarize(terminalreporter.stats.get("skipped", []))
    if summary:
        terminalreporter.section("missing programs")
        terminalreporter.line(summary)


@pytest.fixture(autouse=True)
def own_home(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A fresh HOME with nothing in it.

    Every Python that a test starts would measure coverage, and be ten times as slow to start: so only those of the
    tests marked `measured` do.
    """
    dropped = _DROPPED if request.node.get_closest_marker("measured") else (*_DROPPED, _COVERAGE)
    real_home = Path.home()
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv(
        "UV_PYTHON_INSTALL_DIR",
        os.environ.get("UV_PYTHON_INSTALL_DIR") or str(real_home / ".local/share/uv/python"),
    )
    monkeypatch.setenv("PYENV_ROOT", os.environ.get("PYENV_ROOT") or str(real_home / ".pyenv"))
    for name in list(os.environ):
        if name.startswith(dropped) and name != "UV_PYTHON_INSTALL_DIR":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return home


@pytest.fixture(autouse=True)
def published_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every manifest that a test commits is held against docs/bundle-1.schema.json."""
    commit = BundleWriter.commit

    def checked(writer: BundleWriter, *words: Any, **options: Any) -> bool:  # noqa: ANN401 - as they are
        has_changed = commit(writer, *words, **options)
        assert writer.current_bytes is None or is_valid_manifest(writer.current_bytes)
        return has_changed

    monkeypatch.setattr(BundleWriter, "commit", checked)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """The folder that `index` serves: tests put wheels and sdists into it."""
    folder = tmp_path / "packages"
    folder.mkdir()
    return folder


@pytest.fixture
def index(packages: Path) -> Iterator[IndexServer]:
    """A simple index on loopback."""
    with IndexServer(packages) as server:
        yield server
