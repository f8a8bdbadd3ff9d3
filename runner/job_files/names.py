"""Names of the files that engines write in the folder of a job."""

from __future__ import annotations

CONSOLE_NAME = "console_output.txt"
"""stdout and stderr of the script."""

RECORD_NAME = ".job.json"
"""The outcome, where jobs work in the results folder."""

INPUT_PARAMETERS = "input_parameters.json"
OUTPUT_PARAMETERS = "output_parameters.json"
NUMBER_PARAMETER = "offline_bundle_job"
"""The value of an HPS job that is its number: HPS has no variable for it."""

EXECUTION_SCRIPT = "hps_exec_script.py"
JOB_RULES = "offline_bundle_job.py"
RESERVED = (CONSOLE_NAME, RECORD_NAME, OUTPUT_PARAMETERS, EXECUTION_SCRIPT, JOB_RULES)
"""No input may have these names."""
