"""What mlx-lm saves (experts stacked, under a name of its own) is converted like what Hugging Face saves."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from ollamaq.checkpoint import open_checkpoint
from ollamaq.checkpoint.mlx_names import with_usual_names
from ollamaq.checkpoint.quantized import restored
from ollamaq.convert import convert
from ollamaq.errors import ModelRefused
from ollamaq.tensors import Tensor

FAMILIES = json.loads(gzip.decompress((Path(__file__).parent / "data" / "families-moe.json.gz").read_bytes()))
KINDS = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}


@pytest.fixture
def open_family(tiny_checkpoint, write_safetensors):
    """Opens a tiny model of a family, whose tensors are changed by a function first."""

    def opened(family, change):
        golden = FAMILIES[family]
        path = tiny_checkpoint(f"{family}-{change.__name__}")
        (path / "config.json").write_text(golden["files"]["config.json"])
        random = np.random.default_rng(1)
        tensors = {
            name: random.integers(0, 9999, shape).astype(np.uint16) for name, (_, shape) in golden["tensors"].items()
        }
        stored = {name: ("BF16", list(values.shape), values.tobytes()) for name, values in change(tensors).items()}
        write_safetensors(path / "model.safetensors", stored)
        return convert(open_checkpoint(path), "bf16")

    return opened


def stacked(tensors):
    """As ``sanitize`` of mlx-lm's models does."""
    changed, stacks = {}, {}
    for name, values in tensors.items():
        if expert := re.fullmatch(r"(.*)\.experts\.\d+\.(\w+)\.weight", name):
            kind = KINDS.get(expert[2], expert[2])
            stacks.setdefault(f"{expert[1]}.switch_mlp.{kind}.weight", []).append(values)
        else:
            changed[name] = values
    return changed | {name: np.stack(values) for name, values in stacks.items()}


def unchanged(tensors):
    return tensors


def moved(tensors):
    """A convolution's last two axes, as mlx-lm has them; it adds 1 to some norms then."""
    return {
        name: np.moveaxis(values, 2, 1).copy() if name.endswith(("conv1d.weight", "conv.conv.weight")) else values
        for name, values in tensors.items()
    }


@pytest.mark.parametrize("family", ["mixtral", "phimoe", "qwen2moe", "qwen3moe", "olmoe", "deepseek-v2-lite"])
def test_stacked_experts_are_the_same_model(family, open_family):
    expected, found = (open_family(family, change) for change in (unchanged, stacked))
    assert {tensor.name: tensor.shape for tensor in found.tensors} == {
        tensor.name: tensor.shape for tensor in expected.tensors
    }
    theirs = {tensor.name: tensor for tensor in expected.tensors}
    for tensor in found.tensors:
        assert tensor.rows(0, tensor.n_rows).tobytes() == theirs[tensor.name].rows(0, tensor.n_rows).tobytes()


def test_quantized_stacks_are_taken_apart(tmp_path):
    random = np.random.default_rng(2)
    words = random.integers(0, 1 << 32, (3, 4, 8), dtype=np.uint32)
    scales, biases = random.standard_normal((2, 3, 4, 1)).astype(np.float32)
    name = "model.layers.0.mlp.switch_mlp.gate_proj"
    stored = {
        f"{name}.{part}": Tensor(f"{name}.{part}", type_, values.shape, _reader(values))
        for part, type_, values in (
            ("weight", Type.I32, words),
            ("scales", Type.F32, scales),
            ("biases", Type.F32, biases),
        )
    }
    tensors, _ = restored(stored, {"quantization": {"bits": 4, "group_size": 64}}, tmp_path)
    usual = with_usual_names(tensors, tmp_path)
    assert list(usual) == [f"model.layers.0.mlp.experts.{i}.gate_proj.weight" for i in range(3)]
    for i, tensor in enumerate(usual.values()):
        codes = (words[i, :, :, None] >> np.arange(0, 32, 4, dtype=np.uint32) & 15).reshape(4, 64)
        assert (tensor.rows(1, 3) == codes[1:3].astype(np.float32) * scales[i, 1:3] + biases[i, 1:3]).all()


def _reader(values):
    rows = values.reshape(-1, values.shape[-1])
    return lambda start, stop: rows[start:stop]


@pytest.mark.parametrize(
    "family", ["lfm2", "granitehybrid", "mamba2", "falcon-h1", "nemotron-h", "qwen3next", "qwen3_5"]
)
def test_weights_that_mlx_changed_are_refused(family, open_family):
    assert open_family(family, unchanged).tensors
    with pytest.raises(
        ModelRefused, match=r"conv1?d?\.weight' of shape .*, as mlx-lm saves weights that it has changed"
    ):
        open_family(family, moved)
