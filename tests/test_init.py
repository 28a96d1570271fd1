"""A Modelfile to start from: what the model says, what its maker is asked, and nothing written over."""

import importlib

import pytest
from typer.testing import CliRunner

from ollamaq.cli import app
from ollamaq.modelfile.diff import meaning
from ollamaq.modelfile.lint import lint
from ollamaq.modelfile.parser import parse
from ollamaq.starting import starting_modelfile


def init(*arguments, **more):
    return CliRunner().invoke(app, ["modelfile", "init", *map(str, arguments)], **more)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_stops_and_sampling_are_the_models_and_say_where_they_are_from(tiny_checkpoint, here):
    assert init(tiny_checkpoint(), "--system", "Be kind.", "--num-ctx", 2048, "--license", "MIT").exit_code == 0
    text = (here / "Modelfile").read_text()
    found = meaning(parse(text))
    assert found["FROM"] == ["./model.gguf"]
    assert found["PARAMETER stop"] == ["<|im_end|>"]
    assert found["PARAMETER temperature"] == ["0.2"]
    assert found["PARAMETER num_ctx"] == ["2048"]
    assert found["SYSTEM"] == ["Be kind."]
    assert found["LICENSE"] == ["MIT"]
    assert "# temperature 0.2: generation_config.json\n" in text


def test_what_is_there_is_not_written_over(tiny_checkpoint, here):
    (here / "Modelfile").write_text("FROM x\n")
    run = init(tiny_checkpoint())
    assert run.exit_code == 2
    assert "Modelfile is there already" in run.output
    assert (here / "Modelfile").read_text() == "FROM x\n"
    assert init(here / "tiny", "--force").exit_code == 0


def test_in_a_terminal_it_asks(tiny_checkpoint, here, monkeypatch):
    path = tiny_checkpoint()
    monkeypatch.setattr(importlib.import_module("ollamaq.cli.modelfile.init"), "in_terminal", lambda: True)
    run = init(path, input="Be brief.\n8192\nApache-2.0\n")
    assert run.exit_code == 0, run.output
    found = meaning(parse((here / "Modelfile").read_text()))
    assert (found["SYSTEM"], found["PARAMETER num_ctx"], found["LICENSE"]) == (["Be brief."], ["8192"], ["Apache-2.0"])


def test_what_cannot_be_said_in_a_modelfile_is_refused_and_nothing_written(tiny_checkpoint, here):
    run = init(tiny_checkpoint(), "--system", 'a"""\nb"""\nc')
    assert run.exit_code == 2
    assert not (here / "Modelfile").exists()


def test_the_start_is_formatted_and_lints_but_for_its_missing_gguf(tiny_checkpoint, here):
    text = starting_modelfile(tiny_checkpoint()).text
    assert {finding.rule.name for finding in lint(text, here)} <= {"missing-file", "missing-licence"}
