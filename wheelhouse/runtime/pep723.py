"""Inline script metadata (PEP 723): the block, and digests of what decides a lock."""

from .errors import InputError
from .files import sha256_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional


def read_block(text: str) -> "Optional[str]":
    r"""Return the TOML text of the `script` block of *text*, or None where there is none.

    Line by line the reference regular expression of PEP 723, by which a block runs to the last `# ///` of
    its comment lines: `(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$`; but a block
    without a line is one, as it is to uv and pipx. Where the expression would silently see nothing (a block that
    is not closed, or comes twice), LaunchError 2 names the line.
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
            if block is not None or "# /// script" in lines[index + 1 : end]:
                message = (
                    f"line {index + 1}: a second `# /// script` block begins or is inside this one"
                )
                raise InputError(message, hint="a script has one such block: merge them")
            if unclosed:
                break
            block = "".join(line[2:] + "\n" for line in lines[index + 1 : end])
        index = max(index + 1, end + 1 if end else 0)
    if unclosed and block is None:
        raise InputError(
            f"line {unclosed}: the `# /// script` block is not closed",
            hint="every line of it begins with `#`, and the last one is `# ///`",
        )
    return block


def _opened_block(line: str) -> str:
    """Type of the block that *line* opens, or an empty text."""
    kind = line[6:] if line.startswith("# /// ") else ""
    return kind if kind.replace("-", "a").isalnum() and kind.isascii() else ""


def _block_end(lines: "list[str]", start: int) -> int:
    """Index of the last `# ///` in the comment lines after *start*; 0 for none."""
    end = 0
    for index in range(start + 1, len(lines)):
        line = lines[index]
        if line != "#" and not line.startswith("# "):
            break
        if line == "# ///":
            end = index
    return end


def block_digest(block: str) -> str:
    """Return the sha256 of a metadata block, the same for every kind of line ending."""
    return sha256_of(block.replace("\r\n", "\n").replace("\r", "\n").encode())


def settings_digest(tool_uv: "dict[str, Any]") -> str:
    """Return the sha256 of a [tool.uv] table as canonical JSON ({} where the script has none)."""
    import json

    text = json.dumps(
        tool_uv, sort_keys=True, separators=(",", ":"), default=lambda moment: moment.isoformat()
    )
    return sha256_of(text.encode())
