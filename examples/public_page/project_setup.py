# /// script
# requires-python = ">=3.11"
# dependencies = ["ansys-hps-client"]
# ///
"""Create a project of jobs that run eval.py, with the HPS client alone.

    uv run project_setup.py -U https://hps.example:8443/hps -u me -j 10

The password is that of -p, or of the environment variable HPS_PASSWORD.
"""

import argparse
import os
from pathlib import Path

from ansys.hps.client import Client
from ansys.hps.client.jms import (
    File,
    JmsApi,
    Job,
    JobDefinition,
    Project,
    ProjectApi,
    ResourceRequirements,
    Software,
    SuccessCriteria,
    TaskDefinition,
)

HERE = Path(__file__).parent
MIB = 1024 * 1024


def create_project(client: Client, jobs: int) -> Project:
    """Create an inactive project with its files, definitions and jobs; then activate it."""
    jms = JmsApi(client)
    project = jms.create_project(Project(name=f"Plots with uv - {jobs} jobs", active=False))
    api = ProjectApi(client, project.id)
    files = api.create_files(
        [
            File(name="eval", evaluation_path="eval.py", src=str(HERE / "eval.py")),
            File(
                name="exec_script",
                evaluation_path="exec_script.py",
                src=str(HERE / "exec_script.py"),
            ),
            File(name="plot", evaluation_path="plot.png", type="image/png", collect=True),
        ]
    )
    ids = {file.name: file.id for file in files}
    task = TaskDefinition(
        name="plotting",
        software_requirements=[Software(name="uv")],
        resource_requirements=ResourceRequirements(
            num_cores=0.5, memory=100 * MIB, disk_space=10 * MIB
        ),
        max_execution_time=500.0,
        execution_level=0,
        use_execution_script=True,
        execution_script_id=ids["exec_script"],
        input_file_ids=[ids["eval"]],
        output_file_ids=[ids["plot"]],
        success_criteria=SuccessCriteria(return_code=0, require_all_output_files=True),
    )
    (task,) = api.create_task_definitions([task])
    definition = JobDefinition(name="plots", active=True, task_definition_ids=[task.id])
    (definition,) = api.create_job_definitions([definition])
    api.create_jobs(
        [
            Job(name=f"job-{number}", eval_status="pending", job_definition_id=definition.id)
            for number in range(1, jobs + 1)
        ]
    )
    project.active = True
    return jms.update_project(project)


def main() -> None:
    """Read the options, sign in, create the project."""
    parser = argparse.ArgumentParser(description="Create jobs that plot a sine.")
    parser.add_argument("-U", "--url", default="https://localhost:8443/hps")
    parser.add_argument("-u", "--username", default="repuser")
    parser.add_argument("-p", "--password", default=os.environ.get("HPS_PASSWORD", "repuser"))
    parser.add_argument("-j", "--num-jobs", type=int, default=10)
    parser.add_argument("--ca-file", help="PEM certificates of your site's authority")
    options = parser.parse_args()
    if options.ca_file:
        os.environ["REQUESTS_CA_BUNDLE"] = options.ca_file  # it would override `verify`
    client = Client(options.url, options.username, options.password, verify=True)
    project = create_project(client, options.num_jobs)
    print(f"created {project.name}: {project.id}")


if __name__ == "__main__":
    main()
