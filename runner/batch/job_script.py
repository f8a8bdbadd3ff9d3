"""Render the batch script of a submission: what a scheduler starts on a node. Pure text.

The script is plain sh. Each attempt works in a folder of its own. The outcome of the job is written
beside its files, and then the folder is renamed to the job's name: both appear at once or not at
all. An attempt that the scheduler ends (time limit, node failure, cancelled, requeued) never gets
that far, so none of its files become a result. If two attempts of a job run to their end, because a
node that was given up still works, the first one counts.
"""

from __future__ import annotations

import json
import posixpath
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from offline_bundle.runner.job_files.inputs import INPUTS
from offline_bundle.runner.job_files.names import CONSOLE_NAME, INPUT_PARAMETERS, RECORD_NAME
from offline_bundle.runner.job_files.output_checks import render_output_checks
from offline_bundle.runner.model import job_name
from offline_bundle.runner.results.folder import ATTEMPTS, PRIVATE_NAME
from offline_bundle.runner.standalone.job_rules import Outputs
from offline_bundle.runner.values import Value
from offline_bundle.wheelhouse.runtime.names import POLICY_PATH

LOGS = "logs"
SCRIPT_NAME = "job.sh"
SITE_LAUNCHER_NAME = "site_launcher.py"
"""Starts the site's launcher, where a signature policy is in force."""
VALUES_NAME = "values"
ARGUMENTS_NAME = "arguments"
THREADS_NAME = "threads"

_TEMPLATE = """\
#!/bin/sh
# One job of an array, written by offline-bundle. Its number is $offset + $index.
folder={folder}
bundle={bundle}
private=$folder/{private}
offset=${{1:-0}}
{variables}
number=$((offset + index))
name=$(printf '{pattern}' "$number")
log=$private/{logs}/${{array}}_$index.out

[ ! -e "$folder/$name" ] || exit 0  # an earlier attempt has ended meanwhile
restart=0  # attempts before this one
while [ -e "$private/{attempts}/$name.$restart" ]; do restart=$((restart + 1)); done
attempt=$private/{attempts}/$name.$restart
mkdir "$attempt" && cd "$attempt" || exit 1
script=$attempt/{script}
exec >{console} 2>&1
started=$(date +%s)

# Environments are kept on this node after the job, so that its jobs share them.
{cache}
{exports}
export OFFLINE_BUNDLE_CACHE OFFLINE_BUNDLE_JOB="$number" OFFLINE_BUNDLE_JOBS={jobs}
{values}{links}
# The scheduler ends the job: leave no result.
stop() {{
    trap '' TERM
    kill -TERM "$child" 2>/dev/null
    wait "$child"
    exit 143
}}

start() {{
    eval 'exec '"$run_with"' "$@" --bundle "$bundle" "$script" '"$arguments"
}}

run_with={run_with}
arguments={arguments}
state=
code=7
if [ -f "$bundle/run.py" ]; then
    # a policy, also as a link or in a folder that this user cannot search
    if [ -e {policy} ] || [ -L {policy} ] || [ -n "${{OFFLINE_BUNDLE_POLICY:-}}" ] ||
        {{ [ -d {policy_folder} ] && ! [ -x {policy_folder} ]; }}; then
        # the bundle may be forged, and its launcher with it: start that of the site
        set -- python3 -I -S "$private/{site_launcher}"
        python3 -I -S -c '' 2>/dev/null ||
            set -- sh -c 'echo "error: $0"; exit 6' "signatures are required; PATH has no Python"
    elif # a python3 may be on PATH that does not start: try it
        python3 -S -c '' 2>/dev/null || [ ! -f "$bundle/run.sh" ]; then
        set -- python3 -S "$bundle/run.py"  # -S: starts sooner, without site-packages
    else  # the bundle has a Python of its own
        set -- sh "$bundle/run.sh"
    fi
    trap stop TERM
    start "$@" &
    child=$!
    wait "$child"
    code=$?
    # the scheduler ends the processes of a job one by one: this one may be next
    [ "$code" -ne 143 ] || sleep 1
fi
ended=$(date +%s)
if [ "$code" -ne 0 ] && [ ! -f "$bundle/run.py" ]; then
    state="node failed"
    echo "error: the bundle $bundle does not exist on ${{node:-this node}}"
    echo "hint: --bundle must be in a file system that the nodes see"
elif [ "$code" -ne 0 ]; then
    # not the script failed, but this node: no space, a broken Python, an unreadable bundle
    "$@" --bundle "$bundle" --prepare -q "$script" >/dev/null 2>&1
    case $? in
        0 | 2 | 6) ;;  # 2: the script's header; 6: a signature: the same on each node
        *) state="node failed" ;;
    esac
fi
trap '' TERM
{outputs}format='{{"code": %d, "started": %d, "ended": %d, "node": "%s", '
format=$format'"job_id": "%s", "restart": %d, "state": "%s"}}'
printf "$format\\n" "$code" "$started" "$ended" "$node" "${{array}}_$index" "$restart" \\
    "$state" >{record} || exit 1
[ "$code" -ne 137 ] || exit 137  # killed: the scheduler has the reason
mv -T "$attempt" "$folder/$name" || exit 1
[ -s "$log" ] || rm -f "$log"
exit "$code"
"""

_CACHE = """\
if [ -z "${OFFLINE_BUNDLE_CACHE:-}" ]; then
    for parent in "$scratch" "${TMPDIR:-}" /tmp; do
        case $parent in  # skip folders of this job alone
            "" | *[!0-9]"$job" | *[!0-9]"$job"[!0-9]*) continue ;;
        esac
        [ -d "$parent" ] && [ -w "$parent" ] && break
    done
    OFFLINE_BUNDLE_CACHE=$parent/offline-bundle-$(id -u)
fi"""


def render_script(  # noqa: PLR0913
    *,
    variables: str,
    folder: Path,
    bundle: str,
    script: str,
    jobs: int,
    inputs: Sequence[str],
    outputs: Outputs,
    environment: Mapping[str, str] | None = None,
    node_cache: str | None = None,
    record_size: int = 0,
    argument_size: int = 0,
    threads_size: int = 0,
    run_with: Sequence[str] = (),
) -> str:
    """Render the batch script; the sizes are those of records of `render_records`, or 0.

    *variables* are the scheduler's: see `Scheduler`.
    """
    quote = shlex.quote
    values = f"{_read_record(VALUES_NAME, record_size)} >{INPUT_PARAMETERS} || exit 1\n"
    arguments = f"$({_read_record(ARGUMENTS_NAME, argument_size)})"
    threads = f"export OMP_NUM_THREADS=$(($({_read_record(THREADS_NAME, threads_size)})))\n"
    sources = " ".join(f'"$private"/{INPUTS}/{quote(name)}' for name in inputs)
    return _TEMPLATE.format(
        variables=variables,
        folder=quote(str(folder)),
        bundle=quote(bundle),
        script=quote(script),
        private=PRIVATE_NAME,
        pattern=f"job-%0{len(job_name(1, jobs)) - len('job-')}d",
        attempts=ATTEMPTS,
        logs=LOGS,
        console=CONSOLE_NAME,
        cache=f"OFFLINE_BUNDLE_CACHE={quote(node_cache)}" if node_cache else _CACHE,
        exports=(threads if threads_size else "")  # before those of the user
        + "".join(f"export {name}={quote(value)}\n" for name, value in (environment or {}).items()),
        jobs=jobs,
        values=values if record_size else "",
        arguments=arguments if argument_size else "",
        run_with=quote(shlex.join(run_with)),
        links=f"cp -rs {sources} . || exit 1\n",
        outputs=render_output_checks(outputs),
        record=RECORD_NAME,
        policy=POLICY_PATH,
        policy_folder=posixpath.dirname(POLICY_PATH),
        site_launcher=SITE_LAUNCHER_NAME,
    )


def render_values(rows: Sequence[Mapping[str, Value]]) -> tuple[bytes, int]:
    """Return the values of all jobs as JSON records, and their size; see `render_records`."""
    return render_records([json.dumps(dict(row)) if row else "" for row in rows])


def render_arguments(arguments: Sequence[Sequence[str]]) -> tuple[bytes, int]:
    """Return the arguments of all jobs as records of sh, and their size; see `render_records`."""
    return render_records([shlex.join(words) for words in arguments])


def render_records(texts: Sequence[str]) -> tuple[bytes, int]:
    """Return records of one size, and that size.

    Records are padded with blanks, so that a job reads only its own. Empty and 0 without texts.
    """
    if not any(texts):
        return b"", 0
    records = [text.encode(errors="surrogateescape") for text in texts]
    size = max(map(len, records)) + 1
    return b"".join(record.ljust(size - 1) + b"\n" for record in records), size


def _read_record(name: str, size: int) -> str:
    return f'dd if="$private/{name}" bs={size} skip=$((number - 1)) count=1 2>/dev/null'
