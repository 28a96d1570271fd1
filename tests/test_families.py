"""Each family is converted as llama.cpp's converter converts it.

``data/families.json.gz`` holds what ``convert_hf_to_gguf.py`` b11434 wrote (transformers 4.57.6, outtype f16) for tiny
models of each family: all metadata but the tokenizer's, and hashes of the tensors in their order.
"""

import gzip
import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFValueType

from ollamaq.checkpoint import open_checkpoint
from ollamaq.convert import convert

FAMILIES = json.loads(gzip.decompress((Path(__file__).parent / "data" / "families.json.gz").read_bytes()))


def seeded(name, dtype, shape):
    """BF16 weights from a seed of the tensor's name."""
    assert dtype == "BF16"
    values = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape, dtype=np.float32)
    bits = (values * np.float32(0.05)).view(np.uint32)
    return dtype, shape, ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


def plain(value):
    return float(np.float32(value.value)) if value.type is GGUFValueType.FLOAT32 else value.value


@pytest.mark.parametrize("family", FAMILIES)
def test_metadata_and_tensors_are_the_converters(family, tiny_checkpoint, write_safetensors):
    golden = FAMILIES[family]
    path = tiny_checkpoint(family, tokenizer_config={"add_prefix_space": None})
    (path / "generation_config.json").unlink()
    for name, text in golden["files"].items():
        (path / name).write_text(text)
    write_safetensors(path / "model.safetensors", {n: seeded(n, *spec) for n, spec in golden["tensors"].items()})
    model = convert(open_checkpoint(path), "f16")
    metadata = {key: plain(value) for key, value in model.metadata.items() if not key.startswith("tokenizer.")}
    assert list(metadata.items()) == list(golden["metadata"].items())
    written = {
        tensor.name: [tensor.type.name, hashlib.sha256(tensor.rows(0, tensor.n_rows).tobytes()).hexdigest()]
        for tensor in model.tensors
    }
    assert list(written.items()) == list(golden["written"].items())


@pytest.mark.parametrize(("family", "keys"), [("LlamaForCausalLM", True), ("Qwen2ForCausalLM", False)])
def test_only_llamas_say_whether_a_space_is_put_in_front(family, keys, tiny_checkpoint):
    path = tiny_checkpoint(config={"architectures": [family]})
    assert ("tokenizer.ggml.add_space_prefix" in convert(open_checkpoint(path), "f16").metadata) is keys
