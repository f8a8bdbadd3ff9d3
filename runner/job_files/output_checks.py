"""Render the check of output files for a batch script: the rule of `outputs.py`, in sh."""

from __future__ import annotations

import re
import shlex

from offline_bundle.runner.standalone.job_rules import OWN_FILES, Outputs

_FUNCTIONS = """\
# True if a folder is reached without a link.
is_real() { [ "$(readlink -f -- "$1")" = "$(pwd -P)${1#.}" ]; }
# True if a path is a file, or a link to one in this folder: inputs are links to another one.
is_output() {
    case $1 in OWN) return 1 ;; esac
    [ -f "$1" ] && is_real "${1%/*}" || return 1
    [ ! -L "$1" ] || case $(readlink -f -- "$1") in "$(pwd -P)"/*) ;; *) return 1 ;; esac
LIMIT}
has_output() {
    for path do is_output "$path" && return 0; done
    return 1
}
# True if a file is below one of these folders.
has_files() {
    find "$@" \\( -type f -o -type l \\) -print 2>/dev/null | (
        while IFS= read -r path; do is_output "$path" && exit 0; done
        exit 1
    )
}
"""


def render_output_checks(outputs: Outputs) -> str:
    """Return the lines that set `code` to 1 if a successful job lacks a required output."""
    if not outputs.required:
        return ""
    limit = f'    [ "$(wc -c <"$1")" -le {outputs.limit} ]\n' if outputs.limit is not None else ""
    own = " | ".join(f"./{name}" for name in OWN_FILES)
    checks = [
        f"    {'has_files' if pattern.endswith('/') else 'has_output'} ./{_glob(pattern)} "
        f"|| {{ echo {shlex.quote(outputs.problem(pattern))}; code=1; }}\n"
        for pattern in outputs.patterns
    ]
    functions = _FUNCTIONS.replace("LIMIT", limit).replace("OWN", own)
    return f'{functions}if [ "$code" -eq 0 ]; then\n{"".join(checks)}fi\n'


def _glob(pattern: str) -> str:
    """Quote everything of a pattern but its wildcards."""
    parts = re.split(r"(\[[^]]*\]|[*?])", pattern)
    return "".join(
        part if number % 2 else shlex.quote(part) if part else ""
        for number, part in enumerate(parts)
    )
