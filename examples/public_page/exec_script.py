"""Run the script on an HPS evaluator with the registered uv: `uv run --offline eval.py`."""

import json
import os
from pathlib import Path

from ansys.rep.common.logging import log
from ansys.rep.evaluator.task_manager import ApplicationExecution

OUTPUT_PARAMETERS = Path("output_parameters.json")


class UvExecution(ApplicationExecution):
    """Runs the input file `eval` in an environment that uv makes."""

    def execute(self) -> None:
        """Run the script, and read the values that it wrote, if any."""
        script = next(file for file in self.context.input_files if file["name"] == "eval")
        uv = next(item for item in self.context.software if item["name"].lower() == "uv")
        environment = {**os.environ, **self.context.environment}
        command = [uv["executable"], "run", "--offline", "--no-project", script["path"]]
        log.info(f"Run {' '.join(command)}")
        self.run_and_capture_output(command, shell=False, env=environment)
        if OUTPUT_PARAMETERS.is_file():
            values = json.loads(OUTPUT_PARAMETERS.read_text(encoding="utf-8"))
            self.context.parameter_values.update(values)
