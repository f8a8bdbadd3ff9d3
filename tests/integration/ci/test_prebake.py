"""The GitHub Action and the GitLab component: checked by their schemas, and their steps run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from offline_bundle.wheelhouse.runtime.bundle.manifest import read_manifest
from tests.support.distributions import make_wheel
from tests.support.programs import require

if TYPE_CHECKING:
    from tests.support.index_server import IndexServer
from tests.support.prebake_cases import ACTION, ACTION_FILE, ROOT, WORKFLOWS

COMPONENT = ROOT / "templates" / "prebake.yml"


TARGETS = {"python-versions": "3.11 3.12", "platforms": "x86_64-manylinux_2_28\n"}


@dataclass
class Runner:
    """Run the action's steps in order, as GitHub's runner does, with its own cache."""

    workspace: Path
    inputs: dict[str, str]
    environment: dict[str, str]
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    caches: dict[str, Path] = field(default_factory=dict)
    """Key -> the saved folder, oldest first."""
    text: str = ""

    def run(self, *, is_set_up: bool = True) -> int:
        temporary = self.workspace.parent / "runner temp"
        temporary.mkdir(exist_ok=True)
        if is_set_up and not (temporary / "offline-bundle").exists():
            (temporary / "offline-bundle").symlink_to(sys.prefix)
        for step in ACTION["runs"]["steps"]:
            if not self.wants(step) or (is_set_up and step.get("id") == "setup"):
                continue
            code = self.run_shell(step, temporary) if "run" in step else self.use_cache(step)
            if code:
                return code
        return 0

    def run_shell(self, step: dict[str, Any], temporary: Path) -> int:
        results = temporary / f"{step['id']}.txt"
        results.write_text("")
        environment = {name: self.value(text) for name, text in step["env"].items()} | {
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_ACTIONS": "true",
            "GITHUB_OUTPUT": str(results),
        }
        outcome = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=self.workspace,
            env={**os.environ, **self.environment, **environment},
            text=True,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.text += outcome.stdout
        self.outputs[step["id"]] = dict(
            line.split("=", 1) for line in results.read_text().splitlines()
        )
        return outcome.returncode

    def use_cache(self, step: dict[str, Any]) -> int:
        """Save under a new key only; restore the key, else the newest that starts with it."""
        given = {name: self.value(text) for name, text in step["with"].items()}
        place = self.workspace / given["path"]
        if step["uses"].startswith("actions/cache/save@"):
            saved = self.workspace.parent / f"saved {len(self.caches)}"
            if self.caches.setdefault(given["key"], saved) == saved:
                shutil.copytree(place, saved)
            return 0
        assert step["uses"].startswith("actions/cache/restore@")
        wanted = [given["key"], *given["restore-keys"].split()]
        found = [
            path
            for start in wanted
            for key, path in reversed(self.caches.items())
            if key.startswith(start)
        ]
        if found:
            shutil.copytree(found[0], place, dirs_exist_ok=True)
        return 0

    def wants(self, step: dict[str, Any]) -> bool:
        """Return whether all comparisons of the step's condition are true."""
        conditions = re.findall(r"(\S+) == '(\S*)'", step.get("if", ""))
        assert " && ".join(f"{name} == '{text}'" for name, text in conditions) == step.get("if", "")
        return all(self.value(f"${{{{ {name} }}}}") == text for name, text in conditions)

    def value(self, text: str) -> str:
        def look_up(match: re.Match[str]) -> str:
            kind, _, rest = match[1].partition(".")
            if kind == "inputs":
                return self.inputs.get(rest, str(ACTION["inputs"][rest].get("default", "")))
            if kind == "steps":
                step, _, name = rest.partition(".outputs.")
                return self.outputs[step][name]
            assert match[1] == "runner.temp"
            return str(self.workspace.parent / "runner temp")

        return re.sub(r"\$\{\{ (\S+) \}\}", look_up, text)


@pytest.fixture
def workspace(tmp_path: Path, packages: Path) -> Path:
    make_wheel(packages, "leaf")
    folder = tmp_path / "work space"
    folder.mkdir()
    for name in ("eval.py", "my job.py"):
        (folder / name).write_text(
            '# /// script\n# requires-python = ">=3.11"\n# dependencies = ["leaf"]\n# ///\n'
        )
    return folder


@pytest.fixture
def runner(workspace: Path, index: IndexServer) -> Runner:
    inputs = {
        "scripts": "eval.py\nmy job.py\n",
        "output": "the bundle",
        "args": "--no-uv",
        **TARGETS,
    }
    return Runner(workspace, inputs, {"UV_DEFAULT_INDEX": index.url})


def test_action_reports_whether_the_bundle_changed(runner: Runner, packages: Path) -> None:
    """Each run has a new checkout: an earlier bundle comes from the cache."""
    bundle = runner.workspace / "the bundle"

    def run() -> dict[str, str]:
        shutil.rmtree(bundle, ignore_errors=True)
        assert runner.run() == 0, runner.text
        return dict(runner.outputs["build"])

    first = run()
    manifest = read_manifest(bundle)
    assert set(manifest.scripts) == {"eval", "my job"}
    assert len(manifest.targets) == 2
    key = runner.outputs["key"]["key"]
    assert (first["bundle"], first["changed"]) == ("the bundle", "true")
    assert list(runner.caches) == [f"offline-bundle-{key}-{first['content-key']}"]
    assert run() == {**first, "changed": "false"}
    assert len(runner.caches) == 1
    make_wheel(packages, "leaf", "2.0")
    third = run()
    assert third["changed"] == "true"
    assert third["content-key"] != first["content-key"]
    assert runner.outputs["key"]["key"] == key
    assert read_manifest(bundle).generation == 2  # of the one that was restored
    assert list(runner.caches)[1:] == [f"offline-bundle-{key}-{third['content-key']}"]
    runner.inputs["cache"] = "false"
    assert not [step for step in ACTION["runs"]["steps"] if "uses" in step and runner.wants(step)]


def test_action_with_a_bad_script_fails_with_annotations(runner: Runner) -> None:
    (runner.workspace / "eval.py").write_text("# /// script\n# dependencies = ['no good']\n# ///\n")
    assert runner.run() == 2
    runner.inputs["scripts"] = "my job.py"
    runner.inputs["args"] = "--no-uv\n--check"
    assert runner.run() == 9
    assert "::error file=eval.py,line=2,title=bad-script::" in runner.text
    assert "::error file=my job.py,line=1,title=out-of-date::" in runner.text


@pytest.mark.parametrize(
    "name", ["scripts", "output", "python-versions", "platforms", "args", "python"]
)
def test_input_with_shell_text_is_not_run(runner: Runner, name: str) -> None:
    """A pull request of an unknown author can set an input."""
    text = "$(touch pwned) `touch pwned`; touch pwned\"; touch pwned; \"'; touch pwned; '"
    text += "* ? [a-z] \\ %s"
    runner.inputs[name] = text
    runner.run(is_set_up=name != "python")
    assert not (runner.workspace / "pwned").exists()


def component(inputs: dict[str, str]) -> dict[str, Any]:
    """Return the component's job with *inputs* filled into the parsed text, as GitLab does."""
    header, jobs = yaml.safe_load_all(COMPONENT.read_text(encoding="utf-8"))
    declared = header["spec"]["inputs"]
    assert inputs.keys() <= declared.keys()

    def fill(value: Any) -> Any:  # noqa: ANN401 - any YAML value
        if isinstance(value, dict):
            return {fill(key): fill(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [fill(entry) for entry in value]
        if not isinstance(value, str):
            return value
        return re.sub(
            r"\$\[\[ inputs\.(\S+) \]\]",
            lambda match: inputs.get(match[1], declared[match[1]].get("default", "")),
            value,
        )

    [job] = fill(jobs).values()
    assert isinstance(job, dict)
    return job


def repository(folder: Path) -> Path:
    """Return a git repository with a branch `main` and the files that the job needs."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("offline_bundle", "builder", "wheelhouse", "ci"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored, symlinks=True)
    for name in ("requirements.txt", "requirements-uv.txt"):
        shutil.copyfile(ROOT / name, folder / name)
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@example.invalid"]
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "-A"],
        [*identity, "commit", "-q", "-m", "first"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def test_gitlab_job_builds_the_bundle(workspace: Path, index: IndexServer, tmp_path: Path) -> None:
    source = repository(tmp_path / "source").as_uri()
    inputs = {"scripts": "eval.py\nmy job.py\n", "source": source, "args": "--no-uv", **TARGETS}
    job = component(inputs)
    clear, clone, setup, build = job["script"]
    assert setup.endswith("prebake.sh setup")
    lines = [clear, clone, f"ln -s {sys.prefix} .offline-bundle/tool", build]
    environment = {**os.environ, **job["variables"], "UV_DEFAULT_INDEX": index.url}
    for _ in range(2):
        outcome = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", "\n".join(lines)],
            cwd=workspace, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert outcome.returncode == 0, outcome.stderr
    assert "changed=false" in outcome.stdout
    assert set(read_manifest(workspace / "bundle").scripts) == {"eval", "my job"}
    assert job["artifacts"]["paths"] == job["cache"]["paths"] == ["bundle"]


@pytest.mark.slow
@pytest.mark.registry
def test_setup_uses_only_the_pinned_requirements(runner: Runner, index: IndexServer) -> None:
    runner.inputs["python"] = sys.executable
    del runner.environment["UV_DEFAULT_INDEX"]
    runner.inputs["args"] += f"\n--default-index\n{index.url}"
    assert runner.run(is_set_up=False) == 0, runner.text
    assert runner.outputs["build"]["changed"] == "true"


def lint(schema: str, *paths: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        f"vendor.{schema}",
        *map(str, paths),
    ]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_action_and_workflows_match_githubs_schemas() -> None:
    lint("github-actions", ACTION_FILE)
    lint("github-workflows", *WORKFLOWS)
    lint("dependabot", ROOT / ".github" / "dependabot.yml")


def test_issue_templates_match_githubs_schemas() -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    lint("github-issue-config", folder / "config.yml")
    lint("github-issue-forms", *(path for path in folder.glob("*.yml") if path.stem != "config"))


def by_version(text: str) -> str:
    """Replace digests of actions by their major versions, by which actionlint knows the inputs."""
    return re.sub(r"@[0-9a-f]{40} # (v\d+)[.\d]*", r"@\1", text)


def actionlint(workflow: str) -> str:
    """Return the problems of a workflow, of its shell text, and of the inputs of its actions."""
    programs = Path(sys.executable).parent
    command = [
        str(programs / "actionlint"),
        "-oneline",
        "-shellcheck",
        str(programs / "shellcheck"),
        "-pyflakes=",
    ]
    command += ["-stdin-filename", ".github/workflows/linted.yml", "-"]
    return subprocess.run(
        command, input=workflow, cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout


def as_workflow(action: dict[str, Any]) -> str:
    """Return a reusable workflow of the same steps: actionlint does not read composite actions."""
    inputs = {name: {**described, "type": "string"} for name, described in action["inputs"].items()}
    values = {name: entry["value"] for name, entry in action["outputs"].items()}
    job = {"runs-on": "ubuntu-latest", "steps": action["runs"]["steps"], "outputs": values}
    return yaml.safe_dump({"on": {"workflow_call": {"inputs": inputs}}, "jobs": {"action": job}})


def test_actionlint_finds_no_problem() -> None:
    *examples, _ = snippets("yaml")
    workflows = [by_version(path.read_text(encoding="utf-8")) for path in WORKFLOWS]
    workflows += [text.replace("OWNER/offline-bundle@main", "./") for text in examples]
    action = as_workflow(yaml.safe_load(by_version(ACTION_FILE.read_text(encoding="utf-8"))))
    assert [actionlint(text) for text in [action, *workflows]] == [""] * (len(workflows) + 1)


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ("inputs.cache ==", "inputs.cash ==", 'property "cash" is not defined'),
        ("steps.build.outputs", "steps.built.outputs", 'property "built" is not defined'),
        ("restore-keys:", "restored-keys:", 'input "restored-keys" is not defined'),
        ('prebake.sh" build', 'prebake.sh" $build', "SC2086"),
    ],
)
def test_actionlint_with_a_wrong_step_reports_it(right: str, wrong: str, problem: str) -> None:
    text = by_version(ACTION_FILE.read_text(encoding="utf-8"))
    assert right in text
    assert problem in actionlint(as_workflow(yaml.safe_load(text.replace(right, wrong))))


def test_component_matches_gitlabs_schema(tmp_path: Path) -> None:
    """The header and the jobs are two documents, each of the pipeline schema."""
    header, jobs = yaml.safe_load_all(COMPONENT.read_text(encoding="utf-8"))
    for name, document in (("header", header), ("jobs", jobs)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    lint("gitlab-ci", tmp_path / "header.json", tmp_path / "jobs.json")


def test_shell_files_pass_shellcheck() -> None:
    command = [
        str(Path(sys.executable).with_name("shellcheck")),
        str(ROOT / "ci" / "prebake.sh"),
        str(ROOT / ".ci" / "run"),
    ]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout


def snippets(kind: str) -> list[str]:
    return re.findall(
        rf"```{kind}\n(.*?)```",
        (ROOT / "docs" / "how-to" / "ci.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )


def test_pipelines_of_the_page_are_valid(tmp_path: Path) -> None:
    *workflows, pipeline = snippets("yaml")
    for number, text in enumerate(workflows):
        path = tmp_path / f"{number}.yml"
        path.write_text(text)
        lint("github-workflows", path)
        [job] = yaml.safe_load(text)["jobs"].values()
        used = [
            step["with"]
            for step in job["steps"]
            if step.get("uses", "").startswith("OWNER/offline-bundle@")
        ]
        assert [given.keys() - ACTION["inputs"].keys() for given in used] == [set()]
    (tmp_path / "gitlab.yml").write_text(pipeline)
    lint("gitlab-ci", tmp_path / "gitlab.yml")
    [included] = yaml.safe_load(pipeline)["include"]
    assert component(included["inputs"])["variables"]["PREBAKE_SCRIPTS"] == "eval.py"


def test_commands_of_the_page_run_as_written(workspace: Path, index: IndexServer) -> None:
    require("ssh-keygen")
    install, lock, again, sign = snippets("shell")
    assert install.startswith("uv tool install ./offline-bundle\n")
    (workspace / "allowed_signers").touch()
    subprocess.run(["git", "init", "-q"], cwd=workspace, check=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "key"], cwd=workspace, check=True
    )
    public = (workspace / "key.pub").read_text()
    (workspace / "allowed_signers").write_text(f"ci {public}")
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": programs,
        "UV_DEFAULT_INDEX": index.url,
        "SIGNING_KEY": "key",
    }
    # The page leaves uv for the nodes in; here it would come from the public index.
    texts = [
        text.replace("eval.py -o", "eval.py --no-uv -o")
        for text in (lock, again, sign, install.partition("\n")[2])
    ]
    clean = "git clean -qfdX\n"
    for text in (texts[0], clean + texts[1], *texts[2:]):
        outcome = subprocess.run(
            ["bash", "-e", "-c", text],
            cwd=workspace,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert outcome.returncode == 0, outcome.stderr
    staged = subprocess.run(
        ["git", "ls-files"], cwd=workspace, capture_output=True, text=True, check=True
    ).stdout
    assert staged.split() == [".gitignore", "bundle/bundle.json"]


@pytest.mark.slow
def test_steps_of_the_pipelines_run_as_written(
    runner: Runner, index: IndexServer, packages: Path
) -> None:
    """The inputs of both workflows and of the component; the platforms have no uv here."""
    (runner.workspace / "post.py").write_text((runner.workspace / "eval.py").read_text())
    build, check, component_text = map(yaml.safe_load, snippets("yaml"))
    for workflow, code in ((build, 0), (check, 9)):
        [job] = workflow["jobs"].values()
        [inputs] = [step["with"] for step in job["steps"] if "/offline-bundle@" in step["uses"]]
        runner.inputs = {**inputs, "args": f"{inputs['args']}--no-uv"}
        make_wheel(packages, "leaf", f"{2 + code}.0")
        shutil.rmtree(runner.workspace / "bundle", ignore_errors=True)  # it comes from the cache
        assert runner.run() == code, runner.text
    assert "leaf 2.0 → 11.0" in runner.text
    assert (runner.workspace / "findings.sarif").is_file()
    [included] = component_text["include"]
    source = repository(runner.workspace.parent / "source").as_uri()
    job = component({**included["inputs"], "source": source, "args": "--no-uv"})
    lines = [*job["script"][:2], f"ln -s {sys.prefix} .offline-bundle/tool", job["script"][3]]
    outcome = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", "\n".join(lines)],
        cwd=runner.workspace,
        env={**os.environ, **job["variables"], "UV_DEFAULT_INDEX": index.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.slow
def test_commands_of_the_table_run_as_written(workspace: Path, index: IndexServer) -> None:
    (workspace / "rules.toml").write_text('denied-packages = ["pycrypto"]\n')
    index.vulnerabilities = {}
    page = (ROOT / "docs" / "how-to" / "ci.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| [^|]* \| `((?:build-)?offline-bundle [^`]*)`", page, re.MULTILINE)
    assert len(lines) == 7
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line in lines:
        outcome = subprocess.run(
            line.replace("eval.py -o", "eval.py --no-uv -o").split(),
            cwd=workspace,
            env={**os.environ, "PATH": programs, "UV_DEFAULT_INDEX": index.url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert outcome.returncode == 0, f"{line}\n{outcome.stderr}"
