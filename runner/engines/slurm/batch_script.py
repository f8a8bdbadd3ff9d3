"""The batch script of a submission: what Slurm starts on a node for each job. Pure: plain data in, text out.

It is plain sh, and works in a folder of its own for every attempt. How the job ended is written beside what it left,
and then the folder is renamed to the job's name: both are there at once, or not at all. An attempt that Slurm ends
(its time is up, its node fails, it is cancelled or requeued) never gets that far, so nothing of it is taken for a
result; where two attempts of a job run to their end, because a node that was given up is still alive, the first wins.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from offline_bundle.runner.model import job_name
from offline_bundle.runner.results.folder import (
    CONSOLE_NAME,
    INPUT_PARAMETERS,
    PRIVATE_NAME,
    RECORD_NAME,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from offline_bundle.runner.values import Value

ATTEMPTS = "attempts"
INPUTS = "inputs"
LOGS = "slurm"
SCRIPT_NAME = "job.sh"
VALUES_NAME = "values"

_TEMPLATE = """\
#!/bin/sh
# One job of a Slurm array, written by offline-bundle. $1 + SLURM_ARRAY_TASK_ID is the number of the job.
folder={folder}
bundle={bundle}
script={script}
private=$folder/{private}
number=$(($1 + SLURM_ARRAY_TASK_ID))
name=$(printf '{pattern}' "$number")
attempt=$private/{attempts}/$name.${{SLURM_RESTART_COUNT:-0}}.$SLURM_JOB_ID
log=$private/{logs}/${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID.out

[ ! -e "$folder/$name" ] || exit 0  # an earlier attempt has ended after all
mkdir "$attempt" && cd "$attempt" || exit 1
exec >{console} 2>&1
started=$(date +%s)

# Where environments are kept: a place of this node that outlives the job, so that its jobs share them.
{cache}
{exports}
export OFFLINE_BUNDLE_CACHE OFFLINE_BUNDLE_JOB="$number" OFFLINE_BUNDLE_JOBS={jobs}
{values}{links}
# Slurm wants the job to end: so does this, and leaves no result.
stop() {{
    trap '' TERM
    kill -TERM "$child" 2>/dev/null
    wait "$child"
    exit 143
}}

code=7
if [ -f "$bundle/run.py" ]; then
    if command -v python3 >/dev/null || [ ! -f "$bundle/run.sh" ]; then
        set -- python3 -S "$bundle/run.py"  # -S: it needs nothing of what is installed there, and starts sooner
    else  # the bundle has a Python of its own
        set -- sh "$bundle/run.sh"
    fi
    trap stop TERM
    "$@" --bundle "$bundle" "$script" &
    child=$!
    wait "$child"
    code=$?
    trap '' TERM
fi
if [ "$code" -ne 0 ] && [ ! -f "$bundle/run.py" ]; then
    echo "error: the bundle $bundle is not there, or not to be seen from ${{SLURMD_NODENAME:-this node}}"
fi
ended=$(date +%s)
{outputs}printf '{{"code": %d, "started": %d, "ended": %d, "node": "%s", "restart": %d}}\\n' \\
    "$code" "$started" "$ended" "${{SLURMD_NODENAME:-}}" "${{SLURM_RESTART_COUNT:-0}}" >{record} || exit 1
[ "$code" -ne 137 ] || exit 137  # killed: why, Slurm will say
mv -T "$attempt" "$folder/$name" || exit 1
[ -s "$log" ] || rm -f "$log"
exit "$code"
"""

_CACHE = """\
if [ -z "${OFFLINE_BUNDLE_CACHE:-}" ]; then
    for place in "${SLURM_TMPDIR:-}" "${TMPDIR:-}" /tmp; do
        case $place in
            "" | *[!0-9]"$SLURM_JOB_ID" | *[!0-9]"$SLURM_JOB_ID"[!0-9]*) continue ;;  # none, or of this job alone
        esac
        [ -d "$place" ] && [ -w "$place" ] && break
    done
    OFFLINE_BUNDLE_CACHE=$place/offline-bundle-$(id -u)
fi"""


def render_script(  # noqa: PLR0913
    *,
    folder: Path,
    bundle: str,
    script: str,
    jobs: int,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    node_cache: str | None = None,
    record_size: int = 0,
) -> str:
    """Render the batch script; *record_size* are the bytes of each record of `render_values`, 0 for none."""
    quote = shlex.quote
    where = f'"$private"/{INPUTS}/'
    values = f'dd if="$private/{VALUES_NAME}" of={INPUT_PARAMETERS} bs={record_size} skip=$((number - 1)) count=1 '
    missing = "".join(
        f"    [ -e {quote('./' + output)} ] || {{ echo {quote(f'error: the script left no {output}')}; code=1; }}\n"
        for output in outputs
    )
    return _TEMPLATE.format(
        folder=quote(str(folder)),
        bundle=quote(bundle),
        script=quote(str(folder / PRIVATE_NAME / INPUTS / script)),
        private=PRIVATE_NAME,
        pattern=f"job-%0{len(job_name(1, jobs)) - len('job-')}d",
        attempts=ATTEMPTS,
        logs=LOGS,
        console=CONSOLE_NAME,
        cache=f"OFFLINE_BUNDLE_CACHE={quote(node_cache)}" if node_cache else _CACHE,
        exports="".join(
            f"export {name}={quote(value)}\n" for name, value in (environment or {}).items()
        ),
        jobs=jobs,
        values=f"{values}2>/dev/null || exit 1\n" if record_size else "",
        links="".join(f"ln -s {where}{quote(name)} ./{quote(name)} || exit 1\n" for name in inputs),
        outputs=f'if [ "$code" -eq 0 ]; then\n{missing}fi\n' if outputs else "",
        record=RECORD_NAME,
    )


def render_values(rows: Sequence[Mapping[str, Value]]) -> tuple[bytes, int]:
    """Write the values of all jobs as JSON records of one size, padded with blanks: a job reads its own and no other.

    Returns the bytes and the size of a record; nothing and 0 where jobs have no values.
    """
    if not any(rows):
        return b"", 0
    records = [json.dumps(dict(row)).encode() for row in rows]
    size = max(map(len, records)) + 1
    return b"".join(record.ljust(size - 1) + b"\n" for record in records), size
