"""Report words that this project no longer uses, in code, help texts and documentation.

Run by `make lint` over every file, and by pre-commit over the changed ones. docs/style.md has
the rules behind the list. A line with the comment `words: allow` is skipped, and so is the line
after a line that holds nothing else. A file with `words: allow file` in its first five lines is
skipped. Exit codes: 0 clean, 1 words found, 2 nothing checked.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (
    "builder",
    "runner",
    "wheelhouse",
    "offline_bundle",
    "docs",
    "examples",
    "ci",
    "templates",
    "changes",
    ".github",
)
FILES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "action.yml",
    "Makefile",
    "mkdocs.yml",
)
SUFFIXES = frozenset({".py", ".md", ".j2", ".html", ".css", ".js", ".sh", ".yml", ".toml"})
ALLOW = re.compile(r"words: allow(?! file)")
ALLOW_ALONE = re.compile(r"\W*words: allow\W*")
ALLOW_FILE = re.compile(r"words: allow file")
HEAD_LINES = 5


@dataclass(frozen=True)
class Rule:
    """Words, what to write instead, and a line that the rule must find."""

    words: str
    """A regular expression, matched between non-letters: `tell` also finds `tell_user`."""
    instead: str
    example: str

    @property
    def pattern(self) -> re.Pattern[str]:
        """Return the expression, bounded by anything but letters."""
        return re.compile(rf"(?<![A-Za-z])(?:{self.words})(?![A-Za-z])", re.IGNORECASE)


RULES = (
    Rule(r"refuse(?=_)", "`check_*`, `ensure_*`", "def refuse_links(path):"),
    Rule(r"brings?|bringing|brought", "fetch, download, include", "wheels are brought along"),
    Rule(
        r"lacking|leftovers?|(?:is|are) lost|(?<=_)lost|lost(?=_|\s*=)",
        "missing, corrupt, orphaned",
        "lost = wanted - held",
    ),
    Rule(
        r"(?<!there )(?:is|are|was|were) no(?= (?!longer|more|less|later|older|newer)\w)",
        "is not a",
        "big is no size",
    ),
    Rule(
        r"tells?|telling|told|says?|saying|said",
        "print, report, log, message",
        "def tell_signer(name):",
    ),
    Rule(r"ours|our|we", "the program or the project, by name", "with nothing of ours"),
    Rule(r"lies|stands?(?!-alone)|stood", "is in, exists", "the file lies beside it"),
    Rule(
        r"who|whom|whoever|somebody|someone|anybody|everybody",
        "the program or host, by name",
        "who reads it",
    ),
    Rule(r"judges?|judged|trusts|has against", "check, verify", "the bundle judges itself"),
    Rule(
        r"workshop|puzzles?|culprits?|suspects?|arrivals?|ledgers?|furnish(?:es|ed)?"
        r"|rid(?:e|es|ing)[ _]out|patience|(?<=_)outage|seal(?:s|ed|ing)?|stand[-_ ]in|far[-_ ]side"
        r"|(?:un)?fold(?:s|ed)?|distrust(?:s|ed)?",
        "the term of docs/glossary.md",
        "the far side of the gap",
    ),
    Rule(
        r"(?:waits|ships|replaces|survives|asks|brings)(?=\w*\s*(?::\s*bool|=\s*(?:True|False)))",
        "a boolean that reads as a state: wait, ship_bundle",
        "waits: bool = True",
    ),
)


@dataclass(frozen=True)
class Finding:
    """One word at one place."""

    path: Path
    line: int
    word: str
    instead: str

    def __str__(self) -> str:
        """Return the finding as editors read it."""
        return f"{self.path}:{self.line}: '{self.word}': write instead: {self.instead}"


def is_checked(path: Path) -> bool:
    """Return whether a path, relative to the root, is code or documentation of the product."""
    if str(path) in FILES:
        return True
    return path.parts[0] in FOLDERS and path.suffix in SUFFIXES


def checked_files(root: Path = ROOT) -> list[Path]:
    """Return every file to check, relative to *root*; links to folders are not followed."""
    paths = [root / name for name in FILES]
    for folder in FOLDERS:
        paths += sorted((root / folder).rglob("*"))
    relative = (path.relative_to(root) for path in paths if path.is_file())
    return [path for path in relative if is_checked(path)]


def find_words(text: str, path: Path) -> Iterator[Finding]:
    """Find the words of one file."""
    lines = text.splitlines()
    if any(ALLOW_FILE.search(line) for line in lines[:HEAD_LINES]):
        return
    is_allowed = False
    for number, line in enumerate(lines, 1):
        if not is_allowed and not ALLOW.search(line):
            for rule in RULES:
                for match in rule.pattern.finditer(line):
                    yield Finding(path, number, match[0], rule.instead)
        is_allowed = bool(ALLOW_ALONE.fullmatch(line))


def main(arguments: Sequence[str]) -> int:
    """Check the named files, or all; return the exit code."""
    names = [Path(name).resolve() for name in arguments]
    files = [path.relative_to(ROOT) for path in names if path.is_relative_to(ROOT)]
    files = [path for path in files if is_checked(path)] if arguments else checked_files()
    if not files and not arguments:
        print(f"error: no files to check in {ROOT}", file=sys.stderr)
        return 2
    findings = [
        finding
        for path in files
        for finding in find_words((ROOT / path).read_text(encoding="utf-8"), path)
    ]
    for finding in findings:
        print(finding)
    if findings:
        print(f"{len(findings)} words to replace (docs/style.md); to keep one: `# words: allow`")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
