# /// script
# requires-python = ">=3.11"
# dependencies = ["offline-bundle"]
#
# [tool.uv.sources]
# offline-bundle = { path = "../..", editable = true }
# ///
"""Plot on an HPS cluster: run eval.py as jobs from a bundle, and download the plots.

    uv run project_setup.py --url https://hps.example:8443/hps --bundle /shared/bundle

Copy this file and change it. `submit` has the options of the command `offline-bundle submit`. In a
copy elsewhere, the last line of the metadata names the folder of your clone. Leave out --bundle if
the registration of uv on the nodes names the bundle.
"""

import argparse
import os
import sys
from pathlib import Path

from offline_bundle.runner import submit
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
    parser.add_argument("--overwrite", action="store_true", help="replace earlier plots")
    options = parser.parse_args()
    try:
        with submit(
            HERE / "eval.py",
            bundle=options.bundle,
            jobs=options.num_jobs,
            outputs=["plot.png"],
            download=options.download,
            overwrite=options.overwrite,
            name=f"Plots - {options.num_jobs} jobs",
            url=options.url,
            username=options.username,
            password=options.password,
            ca_file=options.ca_file,
        ) as jobs:
            jobs.wait().raise_if_failed()
    except BundleError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    print(f"open {options.download / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
