"""`ollamaq config` tells the truth about where settings come from, and they come from there."""

import json

import pytest
from typer.testing import CliRunner

from ollamaq.cli import app
from ollamaq.cli.config import schemas

CATALOGUE = """
environments = ["staging", "prod"]
[defaults]
to = "file"
threads = 3
q = ["Q8_0", "Q4_0"]
[presets.base]
license = "MIT"
parameters.temperature = 0.2
[models.bot]
extends = "base"
from = "llama3.2"
[models.bot.environments.prod.parameters]
temperature = 0.1
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("OLLAMA_HOST", "OLLAMAQ_TO", "OLLAMAQ_THREADS", "OLLAMAQ_Q", "OLLAMAQ_PRESETS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "ollamaq.toml").write_text(CATALOGUE)

    def invoke(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


def settings(result):
    return {one["setting"]: (one["value"], one["origin"]) for one in json.loads(result.stdout)["settings"]}


def test_every_setting_is_shown_with_its_origin(run, monkeypatch):
    monkeypatch.setenv("OLLAMAQ_TO", "store")
    told = settings(run("config", "--json"))
    assert told["to"] == ("store", "OLLAMAQ_TO")
    assert told["threads"] == (3, "ollamaq.toml: defaults.threads")
    assert told["ollama_host"] == ("http://127.0.0.1:11434", "default")


def test_the_team_is_shown(run):
    told = json.loads(run("config", "--json").stdout)
    assert (told["environments"], told["models"]) == (["staging", "prod"], ["bot"])
    assert told["presets"][0]["names"] == ["base"]
    assert "bot" in run("config").stdout


def test_a_models_settings_are_shown_with_the_preset_that_says_them(run):
    told = json.loads(run("config", "bot", "--env", "prod", "--json").stdout)["model"]["settings"]
    origins = {one["setting"]: one["origin"] for one in told}
    assert origins["license"] == "ollamaq.toml: presets.base.license"
    assert origins["parameters.temperature"] == "ollamaq.toml: models.bot.environments.prod.parameters.temperature"


def test_the_command_line_comes_before_the_environment_before_the_file(run, tiny_checkpoint, monkeypatch):
    publish = ("publish", tiny_checkpoint(), "--dry-run", "--json")

    def mixes(*more):
        told = json.loads(run(*publish, *more).stdout)
        return told["to"], [release["mix"] for release in told["releases"]]

    assert mixes() == ("file", ["Q8_0", "Q4_0"])
    monkeypatch.setenv("OLLAMAQ_Q", "Q6_K")
    assert mixes() == ("file", ["Q6_K"])
    assert mixes("--q", "Q5_0", "--to", "store") == ("store", ["Q5_0"])


def test_every_default_is_an_option_with_an_environment_variable(run):
    told = {one["setting"]: one["variable"] for one in json.loads(run("config", "--json").stdout)["settings"]}
    for name in schemas()["ollamaq"]["properties"]["defaults"]["properties"]:
        assert told[name] == f"OLLAMAQ_{name.upper()}"


def test_a_secret_is_not_shown(run, monkeypatch):
    monkeypatch.setitem(__import__("ollamaq.cli.config", fromlist=["x"]).VARIABLES, "OLLAMAQ_TOKEN", "")
    monkeypatch.setenv("OLLAMAQ_TOKEN", "hunter2")
    assert "hunter2" not in run("config").stdout


def test_a_catalogue_may_stand_in_pyproject_toml(run, tmp_path):
    (tmp_path / "ollamaq.toml").unlink()
    project = tmp_path / "pyproject.toml"
    project.write_text("[project]\nname = 'x'\n[tool.ollamaq.models.bot]\nfrom = 'llama3.2'\nlicense = 'MIT'\n")
    assert run("modelfile", "render", "bot").exit_code == 0
    text = (tmp_path / "modelfiles" / "bot.Modelfile").read_text()
    assert text.startswith("# Rendered from pyproject.toml (tool.ollamaq.models.bot): change it there.\n")
    project.write_text(project.read_text().replace("license", "licence"))
    refused = run("modelfile", "render", "bot")
    assert refused.exit_code == 2
    assert "pyproject.toml: tool.ollamaq.models.bot.licence is unknown; did you mean license" in refused.stderr


def test_a_broken_catalogue_is_one_sentence_whatever_is_run(run, tmp_path):
    (tmp_path / "ollamaq.toml").write_text("[defaults]\nto = 3\n")
    refused = run("modelfile", "rule")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: ollamaq.toml: defaults.to is 3, not a text\nnext: ")


@pytest.mark.parametrize("name", schemas())
def test_schemas_are_printed(run, name):
    assert json.loads(run("config", "--schema", name).stdout) == schemas()[name]
    assert run("config", "--schema", "x").exit_code == 2
