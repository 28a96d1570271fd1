"""Token ids of vocabularies that ollamaq writes are, in llama.cpp, those of Hugging Face's library."""

import json

import pytest
import vocabularies

MEASURED = json.loads(vocabularies.RESULTS.read_text())
NAMES = sorted({result["vocabulary"] for result in MEASURED["vocabularies"]})


@pytest.mark.parametrize("name", NAMES)
def test_ids_of_a_real_vocabulary_are_as_recorded(name, tmp_path):
    recorded = [result for result in MEASURED["vocabularies"] if result["vocabulary"] == name]
    assert list(vocabularies.measure(name, tmp_path)) == recorded


@pytest.mark.parametrize("recorded", MEASURED["pre"], ids=lambda recorded: recorded["pre"])
def test_every_pre_tokenizer_cuts_as_llama_cpp_does(recorded, tmp_path):
    assert vocabularies.borrowed(vocabularies.NAMED[recorded["pre"]], tmp_path) == recorded


def test_every_vocabulary_and_every_pre_tokenizer_is_recorded():
    assert vocabularies.names() == NAMES
    assert {recorded["pre"] for recorded in MEASURED["pre"]} == set(vocabularies.NAMED)
