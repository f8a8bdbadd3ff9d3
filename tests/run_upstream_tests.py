"""Run the upstream client's own live tests against the embedded HPS: counts go to the last lines.

    python tests/run_upstream_tests.py CHECKOUT [--python PATH] [MODULE...]

CHECKOUT is a working tree of the client's repository; none of its code is kept here. The Python named (by default
this one) needs what its tests import: ansys-hps-client, pytest, pytest-order, python-keycloak, keyring.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runner.embedded import EmbeddedHps

_MODULES = (  # noqa: SIM905 - it reads better
    "jms/test_files.py jms/test_jobs.py jms/test_projects.py jms/test_jms_api.py jms/test_tasks.py"
    " jms/test_job_definitions.py jms/test_task_definition.py jms/test_parameter_definitions.py test_client.py"
    " auth/test_authenticate.py test_exceptions.py test_services.py rms/test_evaluators.py"
).split()

_DEFAULT_SCRIPTS = ("mapdl-exec_mapdl.py", "mechanical-exec_mechanical.py")
"""A site has these in its storage; that they can be copied is what is tested, not what they do."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("modules", nargs="*", default=_MODULES, help="below CHECKOUT/tests  [default: those named]")
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    checkout = options.checkout.resolve()
    with tempfile.TemporaryDirectory(prefix="upstream-") as folder, EmbeddedHps(Path(folder, "hps"), tls=True) as hps:
        for name in _DEFAULT_SCRIPTS:
            (hps.data / "storage" / "default_execution_scripts" / name).write_text("# a site's own\n")
        environment = {name: text for name, text in os.environ.items() if not name.endswith("CA_BUNDLE")}
        environment |= {
            "HOME": folder,
            "HPS_TEST_URL": hps.url,
            "HPS_TEST_USERNAME": hps.username,
            "HPS_TEST_PASSWORD": hps.password,
            "HPS_TEST_KEYCLOAK_USERNAME": hps.username,
            "HPS_TEST_KEYCLOAK_PASSWORD": hps.password,
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONPATH": str(checkout),
        }
        tests = [str(checkout / "tests" / name) for name in options.modules]
        command = [options.python, "-m", "pytest", "-q", "-rfEsxX", "-p", "no:cacheprovider", *tests]
        return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
