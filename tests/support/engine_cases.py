"""How tests start each engine of the registry: one line in `CASES` for a new engine."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.grid_engine import GridEngine
from tests.support.pbs import SimulatedPbs
from tests.support.slurm import SlurmCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class EngineCase:
    """An engine, as `submit` is given it."""

    name: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def _local(folder: Path) -> Iterator[EngineCase]:
    del folder
    yield EngineCase("local", ("--engine", "local"))


@contextlib.contextmanager
def _hps(folder: Path) -> Iterator[EngineCase]:
    del folder
    yield EngineCase("hps", ("--embedded",))


@contextlib.contextmanager
def _slurm(folder: Path) -> Iterator[EngineCase]:
    with SlurmCluster(folder) as cluster:
        yield EngineCase("slurm", ("--engine", "slurm"), cluster.variables)


@contextlib.contextmanager
def _sge(folder: Path) -> Iterator[EngineCase]:
    with GridEngine(folder) as cluster:
        yield EngineCase("sge", ("--engine", "sge"), cluster.variables)


@contextlib.contextmanager
def _pbs(folder: Path) -> Iterator[EngineCase]:
    yield EngineCase("pbs", ("--engine", "pbs"), SimulatedPbs(folder / "pbs").variables)


CASES: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[EngineCase]]] = {
    "hps": _hps,
    "slurm": _slurm,
    "sge": _sge,
    "pbs": _pbs,
    "local": _local,
}
