"""Settings: precedence of command line, variables, files and bundles, and invalid files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
import pytest

from offline_bundle.cli import cli, run_command_line
from offline_bundle.wheelhouse.cli.kit.settings import KNOWN, Defaults, Value, read_settings
from offline_bundle.wheelhouse.runtime.errors import InputError


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder deep in a project, and a user without settings."""
    for setting in KNOWN.values():
        for variable in setting.variables:
            monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    deep = tmp_path / "project" / "studies" / "one"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_nearer_sources_override_farther_ones(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write(
        place / "share" / "offline-bundle.toml", 'url = "https://bundle"\nengine = "hps"\n'
    )
    user = place / "config" / "offline-bundle" / "offline-bundle.toml"
    write(user, f'url = "https://user"\nusername = "me"\nbundle = "{bundle.parent}"\n')
    project = write(
        place / "project" / "pyproject.toml",
        '[tool.offline-bundle]\nurl = "https://project"\nformat = ["cache"]\n',
    )
    monkeypatch.setenv("OFFLINE_BUNDLE_USERNAME", "variable")
    assert read_settings() == {
        "username": Value("variable", "OFFLINE_BUNDLE_USERNAME"),
        "url": Value("https://project", str(project)),
        "format": Value(["cache"], str(project)),
        "bundle": Value(str(bundle.parent), str(user)),
        "engine": Value("hps", str(bundle), is_from_bundle=True),
    }
    nearer = write(place / "project" / "studies" / "offline-bundle.toml", 'url = "https://near"\n')
    assert read_settings()["url"] == Value("https://near", str(nearer))
    assert "format" not in read_settings(), "the first file from the working folder upwards counts"
    monkeypatch.setenv("HPS_URL", "https://hps")
    monkeypatch.setenv("OFFLINE_BUNDLE_URL", "https://own")
    assert read_settings()["url"] == Value("https://hps", "HPS_URL")


def test_relative_paths_are_relative_to_their_file(place: Path) -> None:
    write(place / "project" / "offline-bundle.toml", 'ca-file = "site.pem"\nbundle = "../share"\n')
    settings = read_settings()
    assert settings["ca-file"].value == str(place / "project" / "site.pem")
    assert Path(str(settings["bundle"].value)).resolve() == place / "share"


def test_named_file_is_the_only_one_and_files_can_be_off(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(place / "project" / "offline-bundle.toml", 'url = "https://project"\n')
    named = write(place / "other.toml", 'username = "me"\n')
    monkeypatch.setenv("OFFLINE_BUNDLE_CONFIG_FILE", str(named))
    assert read_settings() == {"username": Value("me", str(named))}
    monkeypatch.delenv("OFFLINE_BUNDLE_CONFIG_FILE")
    monkeypatch.setenv("OFFLINE_BUNDLE_NO_CONFIG", "1")
    assert read_settings() == {}


@pytest.mark.parametrize("value", ["[" * 30_000, "9" * 5000, '"\0"'])
def test_odd_toml_is_an_error(place: Path, value: str) -> None:
    """Nested deeply, a number of many digits, no TOML: a bundle may have such a file."""
    write(place / "share" / "offline-bundle.toml", f"url = {value}\n")
    with pytest.raises(InputError, match="cannot read the settings"):
        read_settings(place / "share")
    write(place / "project" / "pyproject.toml", f"url = {value}\n")
    assert read_settings() == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("urll = 'x'\n", "unknown setting urll; did you mean url?"),
        ("ca_file = 'x'\n", "unknown setting ca_file; did you mean ca-file?"),
        ("format = 'cache'\n", "format: write a list of strings"),
        ("url = 3\n", "url: write a string"),
    ],
)
def test_invalid_settings_are_named(place: Path, text: str, problem: str) -> None:
    write(place / "project" / "offline-bundle.toml", text)
    with pytest.raises(InputError) as caught:
        read_settings()
    assert caught.value.problems == (problem,)


def test_a_bundle_cannot_set_what_is_built_or_used(place: Path) -> None:
    write(place / "share" / "offline-bundle.toml", 'bundle = "x"\npython-version = ["3.12"]\n')
    with pytest.raises(InputError) as caught:
        read_settings(place / "share")
    assert caught.value.problems == (
        "bundle: a bundle cannot set it",
        "python-version: a bundle cannot set it",
    )
    write(place / "share" / "bundle.json", "{}")
    (place / "share").rename(place / "project" / "studies" / "share")
    assert read_settings() == {}


@pytest.mark.parametrize("name", ["offline-bundle.toml", "pyproject.toml"])
def test_files_that_another_user_put_above_do_not_count(
    place: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    table = "" if name == "offline-bundle.toml" else "[tool.offline-bundle]\n"
    path = place / "project" / name
    write(path, f'{table}url = "https://hostile"\n')
    os.chown(path, 12345, 12345)
    assert "url" not in read_settings()
    assert f"note: {path} belongs to another user: not used" in capsys.readouterr().err
    os.chown(
        place / "project" / "studies" / "one", 12345, 12345
    )  # the user works in that user's folder
    assert read_settings()["url"].value == "https://hostile"


def test_other_tables_and_broken_projects_are_left_to_their_programs(place: Path) -> None:
    write(place / "project" / "pyproject.toml", "[tool.ruff]\n")
    write(place / "project" / "studies" / "pyproject.toml", "not TOML [")
    assert read_settings() == {}
    write(place / "project" / "offline-bundle.toml", "not TOML [")
    with pytest.raises(InputError, match="cannot read the settings"):
        read_settings()


def test_options_take_settings_as_defaults_and_override_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(place / "project" / "offline-bundle.toml", 'url = "https://x"\nresults = "out"\n')
    seen: dict[str, object] = {}

    @click.command("submit")
    @click.option("--bundle")
    @click.option("--url", default="https://default")
    @click.option("--download", type=click.Path(path_type=Path))
    @click.option("--engine", default="hps")
    def submit(**values: object) -> None:
        seen.update(values)

    submit.main([], standalone_mode=False, default_map=Defaults("submit"))
    assert seen["url"] == "https://x"
    assert seen["download"] == place / "project" / "out"
    submit.main(["--url", "https://y"], standalone_mode=False, default_map=Defaults("submit"))
    assert seen["url"] == "https://y"
    write(place / "share" / "offline-bundle.toml", 'engine = "slurm"\nurl = "https://z"\n')
    bundle = ["--bundle", str(place / "share")]
    submit.main(bundle, standalone_mode=False, default_map=Defaults("submit"))
    assert (seen["engine"], seen["url"]) == ("slurm", "https://x")
    assert "names the server" not in capsys.readouterr().err
    (place / "project" / "offline-bundle.toml").unlink()
    submit.main(bundle, standalone_mode=False, default_map=Defaults("submit"))
    assert seen["url"] == "https://z"
    notes = capsys.readouterr().err.splitlines()
    origin = f"note: {place / 'share' / 'offline-bundle.toml'} names the"
    assert sorted(notes) == [f"{origin} engine slurm", f"{origin} server https://z"]
    write(place / "project" / "offline-bundle.toml", "broken = 1\n")
    assert run_command_line(cli, ["submit", "--help"], "offline-bundle") == 0
    assert run_command_line(cli, ["show"], "offline-bundle") == 2
    assert "broken" not in capsys.readouterr().err


def test_every_setting_belongs_to_a_parameter_of_its_commands() -> None:
    context = click.Context(cli)
    for key, setting in KNOWN.items():
        for name, parameter in setting.parameters.items():
            command = cli.get_command(context, name)
            assert command
            assert parameter in {one.name for one in command.params}, (key, name)


def test_config_prints_values_and_their_origin(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(place / "project" / "offline-bundle.toml", 'python-version = ["3.12", "3.13"]\n')
    monkeypatch.setenv("OFFLINE_BUNDLE", "/shared/bundle")
    assert run_command_line(cli, ["config"], "offline-bundle") == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("bundle ")).split()[1:3] == [
        "/shared/bundle",
        "OFFLINE_BUNDLE",
    ]
    [versions] = [line for line in lines if line.startswith("python-version ")]
    assert "3.12, 3.13" in versions
    assert str(file) in versions
    assert run_command_line(cli, ["config", "--json"], "offline-bundle") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["bundle"] == {"value": "/shared/bundle", "origin": "OFFLINE_BUNDLE"}
    assert "url" not in document
