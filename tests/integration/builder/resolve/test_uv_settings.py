from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline_bundle.builder.inputs.scripts import Script, read_script
from offline_bundle.builder.resolve.uv_checks import check_settings_readable
from offline_bundle.builder.resolve.uv_process import find_uv
from offline_bundle.wheelhouse.runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def script(folder: Path, *lines: str, name: str = "eval.py") -> Script:
    path = folder / name
    path.write_text(
        "\n".join(
            ["#!/bin/x", "# /// script", *(f"# {line}".rstrip() for line in lines), "# ///", ""]
        )
    )
    return read_script(path)


class TestUnreadableSettings:
    """In the project as which a script is resolved, uv would drop the whole table with a warning."""

    @pytest.mark.parametrize(
        ("lines", "line", "fault"),
        [
            (
                ["exclude-newer = '2026-01-01'", "exclude-newr = 1"],
                7,
                "`exclude-newr` in [tool.uv]: unknown field",
            ),
            (
                ["environments = [\"os_name == 'nt'\"]"],
                6,
                "`environments` in [tool.uv]: unknown field",
            ),
            (
                ["offline = false", "index = 'here'"],
                7,
                "`index` in [tool.uv]: invalid type: string",
            ),
            (
                ["exclude-newer = 'yesterdays'"],
                6,
                "`exclude-newer` in [tool.uv]: `yesterdays` could not be parsed",
            ),
            (
                ["constraint-dependencies = [", "'a',", "'b=3']"],
                8,
                "`constraint-dependencies` in [tool.uv]: no such",
            ),
            (
                ["[tool.uv.sources]", "a = { path = 'y', workspace = true }"],
                7,
                "`sources` in [tool.uv]: cannot specify",
            ),
            (
                ["index-url = 'https://user:secret@host.invalid:99999'"],
                6,
                "`index-url` in [tool.uv]: invalid port",
            ),
            (
                ["preview-features = []", "preview = true"],
                7,
                "the metadata: cannot specify both `preview` and",
            ),
        ],
    )
    def test_the_line_and_uvs_words(
        self, tmp_path: Path, lines: list[str], line: int, fault: str
    ) -> None:
        read = script(tmp_path, "dependencies = []", "", "[tool.uv]", *lines)
        with pytest.raises(InputError) as caught:
            check_settings_readable([read], find_uv())
        (problem,) = caught.value.problems
        assert problem.startswith(f"{read.path}:{line}: uv cannot read {fault}")
        assert "secret" not in problem

    def test_a_requirement_that_only_uv_cannot_read(self, tmp_path: Path) -> None:
        read = script(
            tmp_path, "dependencies = [", "'a @ {place}',", "]", "[tool.uv]", "offline = false"
        )
        with pytest.raises(
            InputError, match=r"eval.py:4: uv cannot read the metadata: relative path without"
        ):
            check_settings_readable([read], find_uv())

    def test_a_path_from_the_scripts_folder_is_no_fault(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "60")  # uv breaks what it quotes
        others = ", ".join(f"'somewhat-longer-{number}'" for number in range(9))
        read = script(
            tmp_path, f"dependencies = ['a @ ./a', {others}]", "[tool.uv]", "offline = false"
        )
        check_settings_readable([read], find_uv())

    def test_of_several_scripts_each_is_named(self, tmp_path: Path) -> None:
        scripts = [script(tmp_path, *lines, name=name) for name, lines in {
            "good.py": ["[tool.uv]", "compile-bytecode = true"],
            "a.py": ["[tool.uv]", "frob = 1"],
            "plain.py": ["[tool.frob]", "frob = 1"],
            "b": ["[tool.uv]", "package = false"],
        }.items()]  # fmt: skip
        with pytest.raises(InputError) as caught:
            check_settings_readable(scripts, find_uv())
        names = [problem.split(":")[0].rpartition("/")[2] for problem in caught.value.problems]
        assert names == ["a.py", "b"]
