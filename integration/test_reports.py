"""Reports of real runs, by the schemas of those who read them."""

import subprocess
import sys

import parts
import pytest
import xmlschema


@pytest.fixture(scope="module")
def errors():
    """What Jenkins' schema of JUnit's XML finds wrong in a file."""
    schema = xmlschema.XMLSchema(parts.junit_schema())
    return lambda path: [error.reason for error in schema.iter_errors(path)]


@pytest.mark.parametrize(("expected", "code"), [("Paris", 0), ("Rome", 1)])
def test_the_report_of_a_smoke_test_is_junits(smollm2, ollamaq, ollama_server, errors, tmp_path, expected, code):
    question = ("--prompt", "What is the capital of France?", "--expect", expected)
    ollamaq("publish", smollm2(768), "bot", "--to", ollama_server, "--report", "report.xml", *question, code=code)
    assert errors(tmp_path / "report.xml") == []
    assert ("<failure " in (tmp_path / "report.xml").read_text()) == bool(code)


def test_the_report_of_a_linter_is_junits(errors, tmp_path):
    (tmp_path / "good").mkdir()
    (tmp_path / "good/Modelfile").write_text("FROM llama3.2\n")
    (tmp_path / "Modelfile").write_text("FROM llama3.2\nPARAMETER temprature 1\nSYSTEM <b>a & b\n")
    command = [sys.executable, "-m", "ollamaq", "modelfile", "lint", "--output-format", "junit"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert run.returncode == 1
    (tmp_path / "report.xml").write_bytes(run.stdout)
    assert errors(tmp_path / "report.xml") == []
    assert b"<failure " in run.stdout


def test_the_schema_finds_what_is_wrong(errors, tmp_path):
    (tmp_path / "report.xml").write_text('<testsuites><testsuite name="a"><check/></testsuite></testsuites>')
    assert errors(tmp_path / "report.xml")
