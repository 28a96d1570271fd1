"""Modelfiles are read as Ollama's own parser reads them. OLLAMAQ_FUZZ_EXAMPLES asks for more, and other, examples."""

import json
import os
import subprocess

import parts
import pytest
from hypothesis import HealthCheck, given, settings
from modelfiles import CHOSEN, MODELFILES, Parser, differences
from typer.testing import CliRunner

from ollamaq.cli import app
from ollamaq.modelfile.printable import RANGES

EXAMPLES = os.environ.get("OLLAMAQ_FUZZ_EXAMPLES")


@pytest.fixture(scope="module")
def ollama():
    with Parser() as parser:
        yield parser


@pytest.mark.parametrize("text", CHOSEN)
def test_the_traps_of_the_grammar_are_read_as_ollama_reads_them(ollama, text):
    assert not differences(text.encode(), ollama(text.encode()))


@settings(
    max_examples=int(EXAMPLES or 5000),
    derandomize=EXAMPLES is None,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(modelfile=MODELFILES)
def test_any_bytes_are_read_as_ollama_reads_them(ollama, modelfile):
    assert not differences(modelfile, ollama(modelfile))


def test_the_characters_that_ollama_drops_are_those_that_go_does_not_print():
    told = subprocess.run([parts.go_program("modelfile"), "dropped"], capture_output=True, check=True).stdout
    assert [tuple(ends) for ends in json.loads(told)] == list(RANGES)


def test_a_model_on_a_real_server_is_compared_with_its_modelfile(ollama_command, ollama_server, tmp_path):
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(
        f'FROM {parts.smollm2_gguf()}\nSYSTEM """Say "yes",\nor no."""\nPARAMETER stop <|im_end|>\n'
        'PARAMETER stop "\n\té"\nPARAMETER temperature 0.70\nPARAMETER num_ctx 2048\nPARAMETER use_mmap true\n'
        "MESSAGE user hi: there\nMESSAGE assistant hello\nLICENSE MIT\nLICENSE Apache-2.0\nREQUIRES 0.14.0\n"
        "TEMPLATE {{ .System }} {{ .Prompt }}\n"
    )
    ollama_command("create", "compared", "-f", modelfile)

    def diff():
        return CliRunner().invoke(app, ["modelfile", "diff", str(modelfile), "compared", "--server", ollama_server])

    assert (diff().exit_code, diff().stdout) == (0, "")
    modelfile.write_text(modelfile.read_text().replace("0.70", "0.75").replace("LICENSE MIT\n", ""))
    assert diff().stdout.splitlines() == [
        "-PARAMETER temperature 0.75",
        "+PARAMETER temperature 0.7",
        " LICENSE",
        "@@ -1 +1,2 @@",
        "+MIT",
        " Apache-2.0",
    ]
