"""From scripts to a bundle and back: the whole build, against an index on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offline_bundle.wheelhouse.runtime.errors import InputError
from tests.support.distributions import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

from tests.support.pipeline_cases import Factory, factory

__all__ = ["factory"]


def test_what_a_folder_holds_that_is_no_bundle_is_left_alone(
    factory: Factory, packages: Path
) -> None:
    make_wheel(packages, "leaf")
    factory.bundle.mkdir()
    (factory.bundle / "thesis.txt").write_text("years of work")
    assert "is not a bundle" in factory.fails(InputError, factory.script("leaf"))
    assert [path.name for path in factory.bundle.iterdir()] == ["thesis.txt"]


def test_an_output_that_is_a_file_is_refused(factory: Factory, packages: Path) -> None:
    make_wheel(packages, "leaf")
    factory.bundle.write_text("no folder")
    assert "is a file" in factory.fails(InputError, factory.script("leaf"))


def test_scripts_without_a_target_are_named_together(factory: Factory) -> None:
    text = factory.fails(
        InputError, factory.script(name="one"), factory.script(name="two"), python_versions=("3.9",)
    )
    assert "one.py: Python 3.9 is not admitted" in text
    assert "two.py: Python 3.9 is not admitted" in text
