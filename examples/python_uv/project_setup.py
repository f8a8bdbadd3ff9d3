# /// script
# requires-python = ">=3.11"
# dependencies = ["offline-bundle"]
#
# [tool.uv.sources]
# offline-bundle = { path = "../..", editable = true }
# ///
"""Plot on an HPS cluster: run eval.py as jobs from a bundle, and download the plots.

    uv run project_setup.py --url https://hps.example:8443/hps --bundle /shared/bundle

Copy this file and change it. The steps are functions in `offline_bundle.runner.engines.hps`: see
its modules `submit`, `projects` and `results`. HPS runs offline-bundle's own execution script,
`runner/standalone/hps_exec_script.py`, on the nodes. In a copy elsewhere, the last line of the
metadata names the folder of your clone. Leave out --bundle if the registration of uv on the nodes
names the bundle.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from offline_bundle.runner.engines.hps.connection.password import find_password
from offline_bundle.runner.engines.hps.connection.server import Server
from offline_bundle.runner.engines.hps.connection.session import connect
from offline_bundle.runner.engines.hps.engine import HpsEngine
from offline_bundle.runner.engines.hps.submit import Submission
from offline_bundle.runner.follow import follow
from offline_bundle.runner.model import Counts
from offline_bundle.runner.results.folder import check_empty
from offline_bundle.runner.values import plan_values
from offline_bundle.wheelhouse.runtime.errors import BundleError

HERE = Path(__file__).parent


def main() -> int:
    """Submit, wait, download."""
    parser = argparse.ArgumentParser(description="Plot sin(x) on an HPS cluster.")
    parser.add_argument("-U", "--url", default="https://localhost:8443/hps")
    parser.add_argument("-u", "--username", default="repuser")
    parser.add_argument(
        "-p",
        "--password",
        default=os.environ.get("HPS_PASSWORD"),
        help="prefer HPS_PASSWORD or the keyring",
    )
    parser.add_argument("-j", "--num-jobs", type=int, default=10)
    parser.add_argument("--bundle", help="directory of the bundle on the nodes")
    parser.add_argument("--ca-file", type=Path, help="PEM certificates of your site's authority")
    parser.add_argument("--download", type=Path, default=Path("plots"))
    options = parser.parse_args()

    submission = Submission(
        script=HERE / "eval.py",
        bundle=options.bundle,
        outputs=("plot.png",),
        values=plan_values([], None, jobs=options.num_jobs),
        name=f"Plots - {options.num_jobs} jobs",
    )
    try:
        check_empty(options.download)  # before any job runs
        password = find_password(options.url, options.username, options.password)
        server = Server(
            url=options.url, username=options.username, password=password, ca_file=options.ca_file
        )
        with connect(server, notice=print) as session:
            engine = HpsEngine(session)
            project = engine.submit(submission, progress=print)
            outcome = follow(
                engine,
                project,
                directory=options.download,
                show=print_changes(),
            )
            outcome.raise_if_failed()
    except BundleError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    print(f"open {options.download / 'index.html'}")
    return 0


def print_changes() -> Callable[[Counts], None]:
    """Return a function that prints the states of the jobs when they change."""
    last = ""

    def show(jobs: Counts) -> None:
        nonlocal last
        if jobs.describe() != last:
            last = jobs.describe()
            print(last)

    return show


if __name__ == "__main__":
    sys.exit(main())
