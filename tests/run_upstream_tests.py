"""Run the upstream client's live tests, or its `python_uv` example, against the embedded HPS.

    python tests/run_upstream_tests.py CHECKOUT [--python PATH] [MODULE...]   counts come last
    python tests/run_upstream_tests.py CHECKOUT [--python PATH] --example     exit 0 on success

CHECKOUT is a working tree of the client's repository; none of its code is kept here. The Python
(by default this one) needs what its tests import: ansys-hps-client, pytest, pytest-order,
python-keycloak, keyring.

The example is its own `project_setup.py` and execution script, unchanged, and its `eval.py` with
the metadata of the example's page if the file has none. A bundle of that script is built; all other
steps have no network: jobs start `uv run eval.py` as upstream's execution script does, with the
bundle's UV_CONFIG_FILE.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from offline_bundle.runner.engines.hps.connection.server import Server
from offline_bundle.runner.engines.hps.connection.session import connect
from offline_bundle.runner.engines.hps.jobs import HpsEngine
from offline_bundle.runner.engines.hps.projects import list_projects
from offline_bundle.runner.follow import watch
from offline_bundle.runner.hps_server import EmbeddedHps
from offline_bundle.runner.network import no_network_command

_MODULES = (  # noqa: SIM905 - it reads better
    "jms/test_files.py jms/test_jobs.py jms/test_projects.py jms/test_jms_api.py jms/test_tasks.py"
    " jms/test_job_definitions.py jms/test_task_definition.py jms/test_parameter_definitions.py"
    " test_client.py"
    " auth/test_authenticate.py test_exceptions.py test_services.py rms/test_evaluators.py"
).split()

_DEFAULT_SCRIPTS = ("mapdl-exec_mapdl.py", "mechanical-exec_mechanical.py")
"""A site has these in its storage; that they can be copied is what is tested, not what they do."""


_HEADER = """# /// script
# requires-python = "==3.12"
# dependencies = ["numpy", "matplotlib"]
# ///
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path)
    parser.add_argument(
        "modules", nargs="*", default=_MODULES, help="below CHECKOUT/tests  [default: those named]"
    )
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--example", action="store_true", help="the example instead of the tests")
    parser.add_argument("--no-network-in", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    checkout = options.checkout.resolve()
    if options.no_network_in:
        return run_example(options.no_network_in, options.python)
    with tempfile.TemporaryDirectory(prefix="upstream-") as folder:
        if options.example:
            prepare_example(checkout, Path(folder))
            again = [
                sys.executable,
                __file__,
                str(checkout),
                "--python",
                options.python,
                "--no-network-in",
                folder,
            ]
            return subprocess.run(no_network_command(again), check=False).returncode
        return run_tests(checkout, Path(folder), options.python, options.modules)


def run_tests(checkout: Path, folder: Path, python: str, modules: list[str]) -> int:
    """Run test modules of the checkout; return pytest's exit code."""
    with EmbeddedHps(folder / "hps", tls=True) as hps:
        for name in _DEFAULT_SCRIPTS:
            (hps.data / "storage" / "default_execution_scripts" / name).write_text(
                "# a site's own\n"
            )
        environment = {
            "HPS_TEST_URL": hps.url,
            "HPS_TEST_USERNAME": hps.username,
            "HPS_TEST_PASSWORD": hps.password,
            "HPS_TEST_KEYCLOAK_USERNAME": hps.username,
            "HPS_TEST_KEYCLOAK_PASSWORD": hps.password,
            "PYTHONPATH": str(checkout),
        }
        tests = [str(checkout / "tests" / name) for name in modules]
        command = [python, "-m", "pytest", "-q", "-rfEsxX", "-p", "no:cacheprovider", *tests]
        return subprocess.run(
            command, cwd=folder, env=_environment(folder) | environment, check=False
        ).returncode


def prepare_example(checkout: Path, folder: Path) -> None:
    """Copy the example, and build the bundle of its script."""
    example = shutil.copytree(checkout / "examples" / "python_uv", folder / "example")
    script = example / "eval.py"
    if "# /// script" not in script.read_text():
        script.write_text(_HEADER + script.read_text())
    build = Path(sys.executable).with_name("build-offline-bundle")
    subprocess.run([build, script, "-o", folder / "bundle"], check=True)


def run_example(folder: Path, python: str) -> int:
    """Start the HPS, run the example's `project_setup.py`, and wait for its jobs."""
    with EmbeddedHps(folder / "hps", bundle=folder / "bundle") as hps:
        command = [
            python,
            "project_setup.py",
            "-U",
            hps.url,
            "-u",
            hps.username,
            "-p",
            hps.password,
        ]
        subprocess.run(command, cwd=folder / "example", env=_environment(folder), check=True)
        with connect(Server(url=hps.url, username=hps.username, password=hps.password)) as session:
            (project,) = list_projects(session)
            counts = watch(HpsEngine(session), project)
            files = session.project(project.project_id).get_files(as_objects=False)
        plots = sum(file["name"] == "plot" and bool(file["size"]) for file in files)
        print(f"{project.name}: {counts.describe()}, {plots} plots, without a network")  # noqa: T201 - what came of it
    return 0 if counts.by_state == {"done": 10} and plots == 10 else 1


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment without CA files and proxies, with a home of its own."""
    kept = {name: text for name, text in os.environ.items() if not name.endswith("CA_BUNDLE")}
    return kept | {"HOME": str(folder), "NO_PROXY": "127.0.0.1,localhost"}


if __name__ == "__main__":
    sys.exit(main())
