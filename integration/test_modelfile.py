"""Modelfiles are read as Ollama's own parser reads them. OLLAMAQ_FUZZ_EXAMPLES asks for more, and other, examples."""

import json
import os
import subprocess

import parts
import pytest
from hypothesis import HealthCheck, given, settings
from modelfiles import CHOSEN, MODELFILES, Parser, differences

from ollamaq.modelfile.printable import RANGES

EXAMPLES = os.environ.get("OLLAMAQ_FUZZ_EXAMPLES")


@pytest.fixture(scope="module")
def ollama():
    parser = Parser()
    yield parser
    parser.process.stdin.close()
    assert parser.process.wait(10) == 0
    parser.process.stdout.close()


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
