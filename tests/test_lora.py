"""Adapters merge as peft merges them, and as the papers have it; what cannot be merged is refused in one sentence."""

import base64
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from ollamaq.checkpoint import open_checkpoint
from ollamaq.checkpoint.lora import merge, parse_weighted, read_adapter
from ollamaq.errors import ModelRefused
from ollamaq.tensors import to_float32

ORACLE = json.loads(gzip.decompress((Path(__file__).parent / "data/lora.json.gz").read_bytes()))
"""Tiny models, adapters on them, and what peft 0.21.2's ``merge_and_unload`` made of both in float32."""


def unpacked(packed):
    return {
        name: np.frombuffer(base64.b64decode(entry["data"]), np.float32).reshape(entry["shape"])
        for name, entry in packed.items()
    }


def values(tensor):
    return to_float32(tensor.rows(0, tensor.n_rows)).reshape(tensor.shape)


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def bf16(array):
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16).view(np.float32)


@pytest.fixture
def save(write_safetensors):
    """Write arrays as safetensors of one dtype."""

    def save(path, arrays, dtype="F32"):
        def data(array):
            return (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)

        write_safetensors(
            path,
            {
                name: (dtype, array.shape, (data(array) if dtype == "BF16" else np.float32(array)).tobytes())
                for name, array in arrays.items()
            },
        )

    return save


@pytest.fixture
def base(tmp_path, save):
    """A base model's directory of the given arrays."""

    def base(arrays, dtype="F32", **config):
        path = tmp_path / "base"
        path.mkdir()
        (path / "config.json").write_text(json.dumps({"model_type": "llama"} | config))
        (path / "tokenizer.json").write_text("{}")
        save(path / "model.safetensors", arrays, dtype)
        return path

    return base


@pytest.fixture
def adapter(tmp_path, save):
    """An adapter's directory of the given arrays, whose names get peft's prefix."""

    def adapter(arrays, name="adapter", prefix="base_model.model.", file="adapter_model.safetensors", **config):
        path = tmp_path / name
        path.mkdir()
        settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4} | config
        (path / "adapter_config.json").write_text(json.dumps(settings))
        save(path / file, {prefix + tensor: array for tensor, array in arrays.items()})
        return path

    return adapter


def merged(base, *adapters):
    """Values of every tensor after a merge."""
    opened = merge(open_checkpoint(base), [read_adapter(*parse_weighted(str(path))) for path in adapters])
    return {name: values(tensor) for name, tensor in opened.tensors.items()}


def refusal(base, *adapters):
    with pytest.raises(ModelRefused) as refused:
        merged(base, *adapters)
    assert refused.value.next_step
    assert "\n" not in str(refused.value)
    return str(refused.value)


def without_tied_head(arrays):
    """The tensors as save_pretrained writes them: a shared head once."""
    return {n: a for n, a in arrays.items() if n != "lm_head.weight"}


@pytest.mark.parametrize("case", ORACLE["cases"])
def test_a_merge_equals_pefts(case, base, adapter):
    told = ORACLE["cases"][case]
    before = unpacked(ORACLE["models"][told["model"]])
    tied = told["model"] == "tied"
    path = base(without_tied_head(before) if tied else before, tie_word_embeddings=tied)
    adapters = [
        adapter(unpacked(one["tensors"]), name=f"adapter{i}", prefix="", **one["config"])
        for i, one in enumerate(told["adapters"])
    ]
    ours = merged(path, *adapters)
    theirs = before | unpacked(told["merged"])
    if tied and case != "tied_saved":
        np.testing.assert_array_equal(theirs["lm_head.weight"], theirs["model.embed_tokens.weight"])
        theirs = without_tied_head(theirs)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        np.testing.assert_allclose(ours[name], expected, rtol=2e-6, atol=2e-6, err_msg=name)
