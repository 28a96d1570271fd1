"""Each family is converted as llama.cpp's converter converts it.

``data/families*.json.gz`` hold what ``convert_hf_to_gguf.py`` b11434 wrote (transformers 4.57.6, outtype f16) for tiny
models of each family: all metadata but the tokenizer's, and hashes of the tensors in their order; for some, shapes too,
and numbers where a hash would ask for PyTorch's last bit of an exponential, which depends on the processor. Those of
``families-settings`` leave out what a class in transformers has a default for, or differ from others of their family;
``families-heads`` has encoders, embedding models, classifiers and rerankers.
"""

import gzip
import hashlib
import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from ollamaq.checkpoint import open_checkpoint
from ollamaq.convert import convert
from ollamaq.errors import ModelRefused

converting = importlib.import_module("ollamaq.convert")

FAMILIES = {
    name: golden
    for file in sorted((Path(__file__).parent / "data").glob("families*.json.gz"))
    for name, golden in json.loads(gzip.decompress(file.read_bytes())).items()
}

OUTTYPES = json.loads(gzip.decompress((Path(__file__).parent / "data" / "outtypes.json.gz").read_bytes()))
"""What the converter wrote with other outtypes than F16."""


@pytest.fixture
def made(tiny_checkpoint, write_safetensors, monkeypatch, seeded):
    """A checkpoint of a golden's files and tensors."""
    monkeypatch.setattr(converting, "vocabulary", lambda *given, **options: {})  # tests/test_tokenizers.py has those

    def make(family, golden):
        path = tiny_checkpoint(family, tokenizer_config={"add_prefix_space": None})
        (path / "generation_config.json").unlink()
        for name, text in golden["files"].items():
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text(text)
        write_safetensors(path / "model.safetensors", {n: seeded(n, *spec) for n, spec in golden["tensors"].items()})
        return path

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_metadata_and_tensors_are_the_converters(family, made, plain):
    golden = FAMILIES[family]
    model = convert(open_checkpoint(made(family, golden)), "f16")
    own = ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.token_type_count")  # which some families write themselves
    metadata = {key: plain(value) for key, value in model.metadata.items() if key not in own}
    assert list(metadata.items()) == list(golden["metadata"].items())
    written = {
        tensor.name: [tensor.type.name, hashlib.sha256(tensor.rows(0, tensor.n_rows).tobytes()).hexdigest()]
        for tensor in model.tensors
    }
    for tensor in model.tensors:
        if tensor.name in golden.get("close", {}):
            values = tensor.rows(0, tensor.n_rows).reshape(-1)
            np.testing.assert_array_max_ulp(values, np.float32(golden["close"][tensor.name]), maxulp=1)
            written[tensor.name] = golden["written"][tensor.name]
    assert list(written.items()) == list(golden["written"].items())
    shapes = {tensor.name: list(tensor.shape) for tensor in model.tensors}
    assert shapes | golden.get("shapes", {}) == shapes


@pytest.mark.parametrize(
    ("family", "outtype"), [(family, outtype) for family, golden in OUTTYPES.items() for outtype in golden["written"]]
)
def test_blocks_are_the_converters(family, outtype, made):
    golden = OUTTYPES[family]
    model = convert(open_checkpoint(made(family, FAMILIES.get(family, golden))), outtype)
    written = {
        tensor.name: [tensor.type.name, hashlib.sha256(tensor.rows(0, tensor.n_rows).tobytes()).hexdigest()]
        for tensor in model.tensors
    }
    assert written == golden["written"][outtype]["tensors"]
    assert model.metadata["general.file_type"].value == golden["written"][outtype]["general.file_type"]


@pytest.mark.parametrize(("family", "keys"), [("LlamaForCausalLM", True), ("Qwen2ForCausalLM", False)])
def test_only_llamas_say_whether_a_space_is_put_in_front(family, keys, tiny_checkpoint):
    path = tiny_checkpoint(config={"architectures": [family]})
    assert ("tokenizer.ggml.add_space_prefix" in convert(open_checkpoint(path), "f16").metadata) is keys


def test_a_classifier_whose_outputs_have_no_names_is_refused(made):
    golden = FAMILIES["bert-classifier"]
    config = json.loads(golden["files"]["config.json"])
    del config["id2label"]
    nameless = golden | {"files": golden["files"] | {"config.json": json.dumps(config)}}
    with pytest.raises(ModelRefused, match=r"no labels for the 3 outputs of 'classifier\.(weight|bias)'"):
        convert(open_checkpoint(made("bert-classifier", nameless)), "f16")


def test_a_reranker_without_its_two_tokens_is_refused(made):
    golden = FAMILIES["qwen3-tied-rerank"]
    files = {name: text for name, text in golden["files"].items() if name != "tokenizer.json"}
    with pytest.raises(ModelRefused, match="without the tokens yes and no"):
        convert(open_checkpoint(made("qwen3-tied-rerank", golden | {"files": files})), "f16")
