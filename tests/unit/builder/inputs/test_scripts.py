from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_bundle.builder.inputs.scripts import (
    Script,
    notes_for_uv,
    parse_script,
    read_script,
    read_scripts,
)
from offline_bundle.wheelhouse.runtime.errors import InputError
from tests.support.characters import CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Sequence
from tests.support.scripts_cases import HEADER, write

EVAL = Path("eval.py")


def faults_of(source: str | bytes) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        parse_script(EVAL, source if isinstance(source, bytes) else source.encode())
    assert caught.value.exit_code == 2
    return caught.value.problems


def fault_of(source: str | bytes) -> str:
    (fault,) = faults_of(source)
    return fault


def header(*lines: str) -> str:
    return "\n".join(
        ["#!/usr/bin/env python3", "# /// script", *(f"# {line}" for line in lines), "# ///", ""]
    )


class TestSoundScripts:
    def test_everything_is_read(self, tmp_path: Path) -> None:
        source = (
            HEADER.replace("# ///\n", "# [tool.uv]\n# exclude-newer = '2026-01-01'\n# ///\n")
            + "print()\n"
        )
        script = read_script(write(tmp_path, "eval.py", source))
        assert script.path == tmp_path / "eval.py"
        assert script.name == "eval"
        assert script.source == source.encode()
        assert script.dependencies == ("numpy>=2", "matplotlib")
        assert script.requires_python == ">=3.11"
        assert script.settings == {"exclude-newer": "2026-01-01"}
        assert script.metadata["tool"] == {"uv": script.settings}
        assert script.block.splitlines()[1] == 'dependencies = ["numpy>=2", "matplotlib"]'
        assert hash(script) == hash(read_script(script.path))

    @pytest.mark.parametrize(
        "prefix",
        [
            "\ufeff",
            "#!/usr/bin/env -S uv run --script\n",
            "#!/usr/bin/env python3\n# -*- coding: utf-8 -*-\n#\n# a comment\n\n",
            '"""A docstring."""\n\n',
            "# /// other\n# key = 1\n# ///\n\n",
        ],
    )
    @pytest.mark.parametrize("line_end", ["\n", "\r\n"])
    def test_block_is_found_behind_anything(self, prefix: str, line_end: str) -> None:
        source = (prefix + HEADER + "print()\n").replace("\n", line_end).encode()
        script = parse_script(EVAL, source)
        assert script.dependencies == ("numpy>=2", "matplotlib")
        assert script.source == source
        assert "\r" not in script.block

    @pytest.mark.parametrize("line", ["dependencies = []", "", "[tool.other]", "tool.other.x = 1"])
    def test_no_dependencies(self, line: str) -> None:
        script = parse_script(EVAL, header(line).encode())
        assert script.dependencies == ()
        assert script.requires_python is None
        assert script.settings == {}

    def test_a_block_without_a_line_asks_for_nothing(self) -> None:
        script = parse_script(EVAL, b"#!/bin/x\n# /// script\n# ///\nprint()\n")
        assert (script.block, script.dependencies, script.requires_python) == ("", (), None)

    def test_empty_comment_lines_and_multi_line_lists(self) -> None:
        source = header("dependencies = [", '  "numpy",  # why', "", '  "rich",', "]").replace(
            "# \n", "#\n"
        )
        assert parse_script(EVAL, source.encode()).dependencies == ("numpy", "rich")

    @pytest.mark.parametrize(
        "requirement",
        [
            "foo @ ./local",
            "foo @ file:///${PROJECT_ROOT}/local",
            "foo[bar] @ /absolute/path; python_version > '3'",
            "foo@https://host.invalid/with a space.whl",
            "foo @ git+ssh://git@host.invalid/foo.git@v1",
            "foo (>=1)",
            "foo\t>=1,\t<2",
            "foo[a,b] >=1,<2 ; sys_platform == 'linux'",
        ],
    )
    def test_requirements_that_uv_takes(self, requirement: str) -> None:
        script = parse_script(EVAL, header(f'dependencies = ["{requirement}"]').encode())
        assert script.dependencies == (requirement,)

    def test_a_requirement_of_several_lines(self) -> None:
        lines = ['dependencies = ["""', "foo>=1,", '<2"""]']
        assert parse_script(EVAL, header(*lines).encode()).dependencies == ("foo>=1,\n<2",)

    @pytest.mark.parametrize(
        "specifier", ["", "==3.12", "==3.12.*", ">=3.11,<3.14", "~=3.11", ">=3.13-dev"]
    )
    def test_requires_python_that_uv_takes(self, specifier: str) -> None:
        assert (
            parse_script(EVAL, header(f'requires-python = "{specifier}"').encode()).requires_python
            == specifier
        )

    def test_several_scripts_keep_their_order(self, tmp_path: Path) -> None:
        paths = [write(tmp_path, name) for name in ("eval.py", "b.py", "a.py")]
        assert [script.name for script in read_scripts(paths)] == ["eval", "b", "a"]


class TestFaultyBlocks:
    def test_no_metadata_shows_a_header_to_paste(self) -> None:
        with pytest.raises(InputError) as caught:
            parse_script(EVAL, b"import numpy\n")
        assert caught.value.problems[0].startswith("eval.py:1: no inline metadata (PEP 723); add ")
        assert caught.value.hint
        pasted = caught.value.hint.split("\n\n", 1)[1]
        assert parse_script(EVAL, pasted.encode()).dependencies == ("numpy", "matplotlib")

    @pytest.mark.parametrize(
        "line",
        [
            "# /// script ",
            "#/// script",
            "# /// Script",
            "  # /// script",
            "# /// scirpt",
            "# /// scripts",
            "## // script",
            "# //// script",
        ],
    )
    def test_almost_an_opening_is_named(self, line: str) -> None:
        fault = fault_of(f"#!/bin/x\n{line}\n# dependencies = []\n# ///\n")
        assert fault.startswith("eval.py:2: ")
        assert "exactly `# /// script`" in fault

    @pytest.mark.parametrize("line", ["# /// other", "# // see the manual", "# https://script"])
    def test_other_comments_are_not_taken_for_an_opening(self, line: str) -> None:
        assert fault_of(f"{line}\n").startswith("eval.py:1: no inline metadata (PEP 723)")

    def test_keys_without_an_opening_are_named(self) -> None:
        fault = fault_of("import x\n\n# dependencies = ['numpy']\n")
        assert fault == (
            "eval.py:3: no metadata: this line must be between `# /// script` and `# ///`"
        )

    @pytest.mark.parametrize(
        ("rest", "place"),
        [
            ("", "line 3 does not begin with `# `"),
            ("# a = 1\n", "line 4 does not begin with `# `"),
            ("# a = 1\n\n# ///\n", "line 4 does not begin with `# `"),
            ("#a = 1\n# ///\n", "line 3 does not begin with `# `"),
            ("# a = 1\n# /// \n", "line 4 must be exactly `# ///`"),
            ("# a = 1\n#///\n", "line 4 must be exactly `# ///`"),
            ("# a = 1\n# //// end\n", "line 4 must be exactly `# ///`"),
        ],
    )
    def test_unterminated(self, rest: str, place: str) -> None:
        fault = fault_of(f"\n# /// script\n{rest}print()\n")
        assert fault.startswith(f"eval.py:2: the `# /// script` block is not closed; {place}")

    def test_two_blocks(self) -> None:
        fault = fault_of(HEADER + "\n" + HEADER)
        assert fault.startswith("eval.py:6: ")
        assert "two" in fault
        assert "merge" in fault

    @pytest.mark.parametrize(
        ("lines", "line"),
        [
            (("dependencies = []", "frob ="), 4),
            (("dependencies = [", '"numpy"'), 4),
            (("dependencies = []", "dependencies = []"), 4),
            (("number = " + "9" * 5000,), 3),
            (("dependencies = " + "[" * 3000,), 3),
        ],
    )
    def test_broken_toml_names_the_line_in_the_file(self, lines: Sequence[str], line: int) -> None:
        fault = fault_of(header(*lines))
        assert fault.startswith(f"eval.py:{line}: the metadata is ")
        assert "at line" not in fault

    def test_not_utf8_names_line_and_byte(self) -> None:
        fault = fault_of(b"# -*- coding: latin-1 -*-\n# caf\xe9\n" + HEADER.encode())
        assert fault == "eval.py:2: byte 31 (0xe9) is not UTF-8; save the file as UTF-8"


class TestFaultyMetadata:
    @pytest.mark.parametrize(
        "requirement",
        [
            *(
                "foo =! 3",
                "foo 1.0",
                "-foo",
                "",
                "foo>=1 <2",
                "foo~=1",
                "foo>=1.*",
                "foo; frob == '1'",
            ),
            *("./local", "https://host.invalid/foo.whl", "foo @ ", "f o @ ./x", "foo[a b]"),
        ],
    )
    def test_bad_requirement(self, requirement: str) -> None:
        fault = fault_of(header("dependencies = [", '  "numpy",', f'  "{requirement}",', "]"))
        assert fault.startswith(f"eval.py:5: `{requirement}` is not a requirement; ")
        assert "\n" not in fault

    def test_same_bad_requirement_twice_has_two_lines(self) -> None:
        faults = faults_of(header("dependencies = [", "'=1',", "'a',", "'=1',", "]"))
        assert [fault.split(" ")[0] for fault in faults] == ["eval.py:4:", "eval.py:6:"]

    def test_escaped_requirement_has_the_line_of_its_list(self) -> None:
        fault = fault_of(header("", "dependencies = [", r'"\u0066oo\u001b =! 3"', "]"))
        assert fault.startswith("eval.py:4: `foo\\x1b =! 3` is not")

    @pytest.mark.parametrize(
        ("lines", "what"),
        [
            (
                ["dependancies = ['a']"],
                "3: unknown key `dependancies`; did you mean `dependencies`?",
            ),
            (
                ["", "Dependencies = []"],
                "4: unknown key `Dependencies`; did you mean `dependencies`?",
            ),
            (
                ["requires_python = '>=3'"],
                "3: unknown key `requires_python`; did you mean `requires-",
            ),
            (["[tools.uv]"], "3: unknown key `tools`; did you mean `tool`?"),
            (
                ["exclude-newer = '2026'"],
                "3: unknown key `exclude-newer`; did you mean a key of [tool",
            ),
            (["[uv]", "x = 1"], "3: unknown key `uv`; did you mean [tool.uv]?"),
            (["[project]", "name = 'x'"], "3: unknown key `project`; a script has dependencies,"),
            (['"e\\u001bd" = 1'], "3: unknown key `e\\x1bd`; a script has dependencies, requires-"),
        ],
    )
    def test_an_unknown_key_has_its_line_and_a_suggestion(
        self, lines: Sequence[str], what: str
    ) -> None:
        if "\\u" in lines[0]:
            lines = [lines[0].replace("'", '"')]
            what = what.replace("3:", "3:")
        assert fault_of(header(*lines)).startswith(f"eval.py:{what}")

    @pytest.mark.parametrize(
        ("lines", "what"),
        [
            (
                ["[[tool.uv.index]]", "url = 'https://i/'", "dependencies = ['a']"],
                "5: `dependencies` is in the table [tool.uv.index], where it has no effect",
            ),
            (
                ["dependencies = []", "[tool.uv]", "dependencies = ['a']"],
                "5: `dependencies` is in the table [tool.uv], where it has no effect",
            ),
            (
                ["[tool.uv.sources]", "requires-python = '>=3'"],
                "4: `requires-python` is in the table [tool.uv.sources]",
            ),
            (["[tool.other]", "dependencies = ['a']"], "4: `dependencies` is in the table [tool.o"),
        ],
    )
    def test_a_key_below_a_table_header_is_named(self, lines: Sequence[str], what: str) -> None:
        fault = fault_of(header(*lines))
        assert fault.startswith(f"eval.py:{what}")
        assert fault.endswith("; move it above the first table")

    @pytest.mark.parametrize(
        "lines",
        [
            ["[tool.uv.sources]", "dependencies = [{ path = 'x' }]"],
            ["[[tool.uv.dependency-metadata]]", "name = 'a'", "requires-python = '>=3'"],
            ["dependencies = []", "[tool.hatch.envs.x]", "dependencies = ['a']"],
        ],
    )
    def test_a_table_may_have_a_key_of_the_same_name(self, lines: Sequence[str]) -> None:
        assert parse_script(EVAL, header(*lines).encode())

    def test_secrets_stay_out(self) -> None:
        fault = fault_of(header('dependencies = ["https://user:secret@host.invalid/foo.whl"]'))
        assert "secret" not in fault
        assert "//****@host.invalid" in fault

    @pytest.mark.parametrize(
        ("lines", "what"),
        [
            (["dependencies = 'numpy'"], "eval.py:3: dependencies is a string"),
            (["", "dependencies = 1"], "eval.py:4: dependencies is a number"),
            (["dependencies = ['a', 1]"], "eval.py:3: dependencies holds a number"),
            (["dependencies = [['a']]"], "eval.py:3: dependencies holds a list"),
            (["[dependencies]", "x = 1"], "eval.py:3: dependencies is a table"),
            (["requires-python = 3.12"], "eval.py:3: requires-python is a number"),
            (["requires-python = 2026-01-01"], "eval.py:3: requires-python is a date"),
            (["", "requires-python = '3.12'"], "eval.py:4: requires-python `3.12` is not"),
            (["requires-python = '>=3.8.*'"], "eval.py:3: requires-python `>=3.8.*` is not"),
            (["", "tool = true"], "eval.py:4: tool is a boolean"),
            (["[[tool]]", "x = 1"], "eval.py:3: tool is a list"),
            (["", "tool.uv = 3"], "eval.py:4: tool.uv is a number"),
            (["[tool]", "uv = 'x'"], "eval.py:4: tool.uv is a string"),
            (["", "[[tool.uv]]"], "eval.py:4: tool.uv is a list"),
        ],
    )
    def test_wrong_types(self, lines: Sequence[str], what: str) -> None:
        fault = fault_of(header(*lines))
        assert fault.startswith(what)
        assert ";" in fault

    def test_all_faults_of_one_script_at_once_in_the_order_of_lines(self) -> None:
        faults = faults_of(
            header("requires-python = '3'", "dependencies = [", "'=1',", "2,", "'a b']", "tool = 1")
        )
        lines = [fault.split(" ")[0] for fault in faults]
        assert lines == ["eval.py:3:", "eval.py:4:", "eval.py:5:", "eval.py:7:", "eval.py:8:"]


class TestFiles:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"none\.py: no such file"):
            read_script(tmp_path / "none.py")

    def test_directory(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is a directory"):
            read_script(tmp_path)

    def test_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.py")
        with pytest.raises(InputError, match="not a regular file"):
            read_script(tmp_path / "pipe.py")

    def test_file_as_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"cannot be read .Not a directory"):
            read_script(write(tmp_path, "eval.py") / "eval.py")

    def test_unreadable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path, "eval.py")
        path.chmod(0)
        if os.geteuid() == 0:  # root reads everything: only the refusal itself is played
            monkeypatch.setattr(Path, "read_bytes", _refuse)
        with pytest.raises(InputError, match=r"cannot be read .Permission denied"):
            read_script(path)

    @pytest.mark.parametrize(
        "name",
        [
            "e\nval.py",
            "e\x1b[31mval.py",
            "e\0val.py",
            "e\udcffval.py",
            "e\\val.py",
            "...py",
            "a:b.py",
            "aux.py",
            "e?.py",
        ],
    )
    def test_names_that_cannot_be_keys(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(InputError) as caught:
            read_script(tmp_path / name)
        (problem,) = caught.value.problems
        assert "rename the file" in problem
        assert problem.isprintable()

    @pytest.mark.parametrize("name", ["Eval.py", "eval.txt", "folder/eval.py"])
    def test_same_name_twice(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        first, second = write(tmp_path, "eval.py"), write(tmp_path, name)
        with pytest.raises(InputError) as caught:
            read_scripts([first, second])
        (problem,) = caught.value.problems
        assert problem.startswith(f"{second}: has the same name as {first}")

    def test_the_same_script_twice_is_named_so(self, tmp_path: Path) -> None:
        path = write(tmp_path, "eval.py")
        with pytest.raises(InputError) as caught:
            read_scripts([path, path, Path(os.path.relpath(path))])
        twice = "is named twice; name each script once"
        assert caught.value.problems == (f"{path}: {twice}", f"{os.path.relpath(path)}: {twice}")

    def test_faults_of_all_scripts_at_once(self, tmp_path: Path) -> None:
        paths = [
            write(tmp_path, "good.py"),
            write(tmp_path, "plain.py", "print()\n"),
            write(tmp_path, "bad.py", header("dependencies = ['=1', '=2']")),
            tmp_path / "none.py",
            write(tmp_path, "other.py", "print()\n"),
        ]
        with pytest.raises(InputError) as caught:
            read_scripts(paths)
        names = [Path(problem.split(":")[0]).name for problem in caught.value.problems]
        assert names == ["plain.py", "bad.py", "bad.py", "none.py", "other.py"]
        assert caught.value.hint
        assert caught.value.hint.count("# /// script") == 1


def _refuse(_path: Path) -> bytes:
    raise PermissionError(13, "Permission denied")


_pieces = st.sampled_from(
    [
        *(
            "# /// script\n",
            "# ///\n",
            "#\n",
            "# ",
            "\n",
            "\r",
            "\ufeff",
            "dependencies",
            "requires-python",
            "=",
            " = ",
        ),
        *(
            "[",
            "]",
            '"',
            "'",
            '"""',
            ",",
            "numpy",
            "@",
            ">=1",
            "tool",
            "uv",
            ".",
            "{",
            "}",
            "1979-05-27",
            "0x",
            "\\u",
        ),
    ]
)


@given(st.lists(_pieces | st.text(CHARACTERS, max_size=4)).map("".join))
def test_any_text_parses_or_is_refused(text: str) -> None:
    for source in (text, f"# /// script\n# {text}\n# ///\n"):
        try:
            parse_script(EVAL, source.encode(errors="surrogatepass"))
        except InputError as error:
            assert error.problems  # noqa: PT017


@given(st.binary())
def test_any_bytes_parse_or_are_refused(source: bytes) -> None:
    try:
        parse_script(EVAL, b"# /// script\n# " + source + b"\n# ///\n")
    except InputError as error:
        assert error.problems  # noqa: PT017


def test_an_exact_minor_version_is_noted_once_with_what_to_write() -> None:
    def script(name: str, requires_python: str) -> Script:
        block = f'# /// script\n# requires-python = "{requires_python}"\n# ///\n'
        return parse_script(Path(f"{name}.py"), block.encode())

    scripts = [script("a", "==3.12"), script("b", " == 3.12 "), script("c", "==3.13")]
    first, second = notes_for_uv(scripts)
    assert first.startswith('a.py, b.py: requires-python = "==3.12" means 3.12.0 only')
    assert first.endswith('write requires-python = "==3.12.*"')
    assert second.startswith("c.py: ")
    others = ["==3.12.*", "==3.12.1", ">=3.12", "~=3.12"]
    assert notes_for_uv([script("d", text) for text in others]) == []
