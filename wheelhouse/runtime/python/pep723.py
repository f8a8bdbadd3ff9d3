"""Inline script metadata (PEP 723): the block, and digests of what decides a lock."""

from typing import NamedTuple

from ..disk.files import sha256_of
from ..errors import InputError
from ..text import without_logins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

OPENING = "# /// script"


class Block(NamedTuple):
    """A metadata block: its TOML text, and the line of the file (from 1) where that begins."""

    text: str
    line: int


class MetadataError(InputError):
    """A metadata block that is not closed, or occurs twice; *line* is that of its opening."""

    def __init__(self, line: int, problem: str, hint: str) -> None:
        super().__init__(f"line {line}: {problem}", hint=hint)
        self.line = line
        self.problem = problem


def read_block(text: str) -> "Optional[str]":
    """Return the TOML text of the `script` block of *text*, or None; raises as `find_block`."""
    block = find_block(text)
    return block.text if block else None


def find_block(text: str) -> "Optional[Block]":
    r"""Return the `script` block of *text*, or None where there is none.

    Follows the reference regular expression of PEP 723 line by line,
    `(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$`: a block ends at the
    last `# ///` of its comment lines. An empty block is valid too, as in uv and pipx. Raises
    MetadataError for what the expression would silently skip: an unclosed or a second block.
    """
    lines = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    block = None
    unclosed = 0
    index = 0
    while index < len(lines):
        kind = _opened_block(lines[index])
        end = _block_end(lines, index) if kind else 0
        if kind == "script" and not end:
            unclosed = unclosed or index + 1
        elif kind == "script":
            if block is not None or OPENING in lines[index + 1 : end]:
                raise MetadataError(
                    index + 1,
                    "there are two `# /// script` blocks",
                    "merge them into one",
                )
            if unclosed:
                break
            content = "".join(line[2:] + "\n" for line in lines[index + 1 : end])
            block = Block(content, index + 2)
        index = max(index + 1, end + 1 if end else 0)
    if unclosed and block is None:
        raise MetadataError(
            unclosed,
            "the `# /// script` block is not closed",
            "begin every line of it with `#`, and end it with a line `# ///`",
        )
    return block


def _opened_block(line: str) -> str:
    """Return the type of the block that *line* opens, or an empty text."""
    kind = line[6:] if line.startswith("# /// ") else ""
    return kind if kind.replace("-", "a").isalnum() and kind.isascii() else ""


def _block_end(lines: "list[str]", start: int) -> int:
    """Return the index of the last `# ///` in the comment lines after *start*; 0 for none."""
    end = 0
    for index in range(start + 1, len(lines)):
        line = lines[index]
        if line != "#" and not line.startswith("# "):
            break
        if line == "# ///":
            end = index
    return end


def block_digest(block: str) -> str:
    """Return the sha256 of a metadata block, for every kind of line ending and any login."""
    return sha256_of(without_logins(block.replace("\r\n", "\n").replace("\r", "\n")).encode())


def settings_digest(tool_uv: "dict[str, Any]") -> str:
    """Return the sha256 of a [tool.uv] table as canonical JSON ({} where the script has none)."""
    import json

    text = json.dumps(
        tool_uv, sort_keys=True, separators=(",", ":"), default=lambda moment: moment.isoformat()
    )
    return sha256_of(without_logins(text).encode())
