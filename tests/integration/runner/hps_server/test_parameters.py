"""Parameters, permissions, groups, templates, and what is refused, with the real client."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from ansys.hps.client import HPSError
from ansys.hps.client.auth import AuthApi
from ansys.hps.client.jms import (
    File,
    FitnessDefinition,
    FloatParameterDefinition,
    Job,
    JobDefinition,
    ParameterMapping,
    Permission,
    Project,
    ProjectApi,
    TaskDefinition,
    TaskDefinitionTemplate,
)

if TYPE_CHECKING:
    from tests.support.hps import Hps

COMMAND = 'awk -F= \'/^load/ {print "deflection = " 2 * $2 " mm"}\' deck.txt > result.txt'


def make_study(hps: Hps) -> tuple[ProjectApi, dict[str, str]]:
    """A project whose task reads `load` from deck.txt and writes `deflection` to result.txt."""
    project = hps.jms.create_project(Project(name="study", active=True), replace=True)
    api = ProjectApi(hps.client, project.id)
    files = [
        File(name="deck", evaluation_path="deck.txt", src=io.BytesIO(b"load = 0 ! in N\n")),
        File(name="result", evaluation_path="result.txt", collect=True),
    ]
    ids = {file.name: file.id for file in api.create_files(files)}
    # without mode, as clients before 0.11 send them
    answer = hps.client.session.post(
        f"{api.url}/parameter_definitions",
        json={
            "parameter_definitions": [
                {"type": "float", "name": name} for name in ("load", "deflection")
            ]
        },
    )
    parameters = answer.json()["parameter_definitions"]
    assert [body["mode"] for body in parameters] == ["input", "input"]
    ids |= {body["name"]: body["id"] for body in parameters}
    return api, ids


def define_job(api: ProjectApi, ids: dict[str, str], **definition: Any) -> JobDefinition:  # noqa: ANN401
    task = TaskDefinition(
        name="awk",
        execution_command=COMMAND,
        input_file_ids=[ids["deck"]],
        output_file_ids=[ids["result"]],
    )
    mappings = [
        ParameterMapping(
            key_string=name, tokenizer="=", parameter_definition_id=ids[name], file_id=ids[file]
        )
        for name, file in (("load", "deck"), ("deflection", "result"))
    ]
    return api.create_job_definitions(
        [
            JobDefinition(
                name="jobs",
                task_definition_ids=[api.create_task_definitions([task])[0].id],
                parameter_definition_ids=[ids["load"], ids["deflection"]],
                parameter_mapping_ids=[m.id for m in api.create_parameter_mappings(mappings)],
                **definition,
            )
        ]
    )[0]


def wait(api: ProjectApi, jobs: list[Job]) -> list[Job]:
    import time

    deadline = time.monotonic() + 30
    while True:
        found = api.get_jobs(id=[job.id for job in jobs])
        if all(job.eval_status in {"evaluated", "failed"} for job in found):
            return sorted(found, key=lambda job: str(job.name))
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_values_go_into_inputs_and_come_from_outputs(hps: Hps) -> None:
    api, ids = make_study(hps)
    definition = define_job(api, ids)
    modes = {body.name: body.mode for body in api.get_parameter_definitions()}
    assert modes == {"load": "input", "deflection": "output"}
    jobs = [
        Job(
            name=f"job {load}",
            values={"load": load},
            eval_status="pending",
            job_definition_id=definition.id,
        )
        for load in (1.5, 4.0)
    ]
    ended = wait(api, api.create_jobs(jobs))
    assert [job.values for job in ended] == [
        {"load": 1.5, "deflection": 3.0},
        {"load": 4.0, "deflection": 8.0},
    ]


def test_a_value_that_is_not_in_the_file_fails_the_job_by_name(hps: Hps) -> None:
    api, ids = make_study(hps)
    definition = define_job(api, ids)
    mapping = api.get_parameter_mappings(file_id=ids["result"])[0]
    mapping.key_string = "stress"
    api.update_parameter_mappings([mapping])
    job = Job(
        name="job", values={"load": 1.0}, eval_status="pending", job_definition_id=definition.id
    )
    (ended,) = wait(api, api.create_jobs([job]))
    assert ended.eval_status == "failed"
    console = api.get_files(
        id=api.get_tasks()[0].output_file_ids, name="console_output", content=True
    )
    assert (
        b"result.txt: parameter deflection: 'stress' followed by '=' is not in"
        in console[0].content
    )


def test_outputs_are_in_the_context_and_a_new_value_is_an_output(hps: Hps) -> None:
    submitted = hps.submit(
        "self.context.parameter_values['area'] = 2.5\n"
        "open('seen.json', 'w').write(json.dumps(self.context.output_parameters))",
        outputs={"seen": "seen.json"},
        state="inactive",
    )
    api = submitted.api
    made = api.create_parameter_definitions(
        [
            FloatParameterDefinition(name=name, mode=mode)
            for name, mode in (("area", "input"), ("mass", "output"))
        ]
    )
    definition = api.get_job_definitions()[0]
    definition.parameter_definition_ids = [body.id for body in made]
    api.update_job_definitions([definition])
    job = api.get_jobs()[0]
    job.eval_status = "pending"
    api.update_jobs([job])
    submitted.wait()
    assert submitted.outputs()["seen.json"] == b'[{"name": "mass", "type": "float"}]'
    assert {body.name: body.mode for body in api.get_parameter_definitions()} == {
        "area": "output",
        "mass": "output",
    }


def test_what_it_does_not_do_is_refused_by_name(hps: Hps) -> None:
    api, ids = make_study(hps)
    mapping = ParameterMapping(key_string="n", tokenizer="=", file_id=ids["deck"], line=3)
    with pytest.raises(
        HPSError, match="parameter_mappings: the embedded HPS does not support line, no"
    ):
        api.create_parameter_mappings([mapping])
    fitness = FitnessDefinition(error_fitness=1.0)
    with pytest.raises(HPSError, match=r"job_definitions: .* does not support fitness_definition"):
        define_job(api, ids, fitness_definition=fitness)
    with pytest.raises(HPSError, match="has no route GET /hps/jms/api/v1/no/such/route/at/all"):
        hps.client.session.get(f"{hps.server.url}/jms/api/v1/no/such/route/at/all")


def test_permissions_and_groups_are_read_only(hps: Hps) -> None:
    api, _ = make_study(hps)
    (permission,) = api.get_permissions()
    user = AuthApi(hps.client).get_users(username=hps.server.username)[0]
    assert (permission.role, permission.value_id) == ("admin", user.id)
    assert AuthApi(hps.client).get_user_groups_names(user.id) == []
    with pytest.raises(HPSError, match="the embedded HPS has one user: permissions are fixed"):
        api.update_permissions([Permission(permission_type="anyone", role="reader")])


def test_templates_of_task_definitions_are_kept(hps: Hps) -> None:
    made = hps.jms.create_task_definition_templates(
        [
            TaskDefinitionTemplate(
                name="plot", version="1.0", execution_command="uv run %file:script%"
            )
        ]
    )
    (found,) = hps.jms.get_task_definition_templates(name="plot")
    assert (found.version, found.execution_command) == ("1.0", "uv run %file:script%")
    permissions = hps.jms.get_task_definition_template_permissions(found.id)
    assert [permission.role for permission in permissions] == ["admin"]
    hps.jms.delete_task_definition_templates(made)
    assert hps.jms.get_task_definition_templates(name="plot") == []
