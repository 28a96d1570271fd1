"""Experts are stacked lazily, and what is wrong with them is said in a sentence."""

import json

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from ollamaq.architectures.experts import stack
from ollamaq.architectures.gpt_oss import in_blocks, mxfp4
from ollamaq.architectures.transforms import transposed
from ollamaq.checkpoint import open_checkpoint
from ollamaq.convert import convert
from ollamaq.errors import ModelRefused
from ollamaq.quantize.dequantize import dequantize
from ollamaq.tensors import Tensor


def watched(values, read, name="t"):
    """A tensor that notes how many rows it is asked for."""
    matrix = values.reshape(-1, values.shape[-1])

    def rows(start, stop):
        read.append((name, stop - start))
        return matrix[start:stop]

    return Tensor(name, Type.F32, values.shape, rows)


def test_a_stack_is_its_experts_one_after_another():
    experts = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    whole = stack([watched(expert, []) for expert in experts])
    assert whole.shape == (3, 4, 5)
    for start in range(13):
        for stop in range(start, 13):
            np.testing.assert_array_equal(whole.rows(start, stop), experts.reshape(12, 5)[start:stop])


def test_a_stack_reads_the_rows_asked_for_and_no_others():
    read = []
    whole = stack([watched(np.zeros((1000, 8), np.float32), read, i) for i in range(64)])
    assert read == []
    whole.rows(5_998, 6_003)
    assert read == [(5, 2), (6, 3)]


def test_a_transposed_stack_reads_only_the_experts_asked_for():
    read = []
    values = np.arange(4 * 6 * 5, dtype=np.float32).reshape(4, 6, 5)
    turned = transposed(watched(values, read))
    assert turned.shape == (4, 5, 6)
    np.testing.assert_array_equal(turned.rows(3, 12), values.swapaxes(1, 2).reshape(-1, 6)[3:12])
    assert read == [("t", 0), ("t", 6), ("t", 6), ("t", 6)]


def bytes_of(values):
    return Tensor("t", Type.I8, values.shape, lambda start, stop: values.reshape(-1, values.shape[-1])[start:stop])


def test_mxfp4_weights_keep_their_values():
    random = np.random.default_rng(1)
    blocks = random.integers(0, 256, (2, 3, 2, 16), np.uint8)
    scales = random.integers(120, 130, (2, 3, 2), np.uint8)
    numbers = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])  # of the OCP's MX specification
    codes = np.stack((blocks & 15, blocks >> 4), axis=-1).reshape(2, 3, 2, 32)
    wanted = numbers[codes] * 2.0 ** (scales[..., None].astype(int) - 127)
    packed = mxfp4(bytes_of(blocks), bytes_of(scales))
    assert packed.shape == (2, 3, 64)
    np.testing.assert_array_equal(dequantize(Type.MXFP4, packed.rows(0, 6)), wanted.reshape(6, 64))
    np.testing.assert_array_equal(packed.rows(2, 5), packed.rows(0, 6)[2:5])


def test_mxfp4_tensors_stand_in_front():
    pair = {"b.x_blocks": bytes_of(np.zeros((1, 2, 16), np.uint8)), "b.x_scales": bytes_of(np.zeros((1, 2), np.uint8))}
    tensors = {"a.weight": watched(np.zeros((2, 2)), []), **pair}
    assert [name for name, _ in in_blocks(tensors.items(), {})] == ["b.x", "a.weight"]


SHAPES = {
    "lm_head.weight": (300, 256),
    "model.layers.0.block_sparse_moe.gate.weight": (2, 256),
    **{
        f"model.layers.0.block_sparse_moe.experts.{i}.{name}.weight": shape
        for i in range(2)
        for name, shape in {"w1": (128, 256), "w2": (256, 128), "w3": (128, 256)}.items()
    },
}
EXPERT = "model.layers.0.block_sparse_moe.experts.1.w2.weight"


@pytest.fixture
def mixtral(tiny_checkpoint, write_safetensors, tmp_path):
    """A Mixtral of one layer, some of its tensors changed: (shape, dtype), or None for one that is not there."""

    def build(changed=None, **config):
        path = tiny_checkpoint(
            config={"architectures": ["MixtralForCausalLM"], "num_local_experts": 2, "num_hidden_layers": 1}
            | {"intermediate_size": 128}
            | config
        )
        dense = open_checkpoint(path).tensors
        shapes = {
            name: tensor.shape for name, tensor in dense.items() if "layers.1" not in name and ".mlp." not in name
        }
        wanted = {name: ("BF16", shape) for name, shape in (shapes | SHAPES).items()} | (changed or {})
        size = {"BF16": 2, "F32": 4, "U8": 1}
        write_safetensors(
            path / "model.safetensors",
            {
                name: (dtype, shape, bytes(size[dtype] * int(np.prod(shape))))
                for name, (dtype, shape) in ((name, spec) for name, spec in wanted.items() if spec)
            },
        )
        return open_checkpoint(path)

    return build


def test_a_model_with_experts_says_how_many_beside_its_size(mixtral):
    model = convert(mixtral(), "f16")
    assert model.metadata["general.size_label"].value.startswith("2x")


@pytest.mark.parametrize(
    ("changed", "config", "said"),
    [
        ({EXPERT: None}, {}, "has 5 matrices of model.layers.0.block_sparse_moe.experts, where 2 experts have 6"),
        ({EXPERT: ("BF16", (256, 256))}, {}, "experts must be alike"),
        ({EXPERT: ("F32", (256, 128))}, {}, "experts must be alike"),
        ({EXPERT: ("U8", (256, 128))}, {}, "experts must be alike"),
        ({EXPERT.replace(".1.", ".2."): ("BF16", (256, 128))}, {}, "experts.2.w2.weight', which has no place"),
        ({"model.norm.weight": ("U8", (256,))}, {}, "'model.norm.weight' of integers"),
        ({}, {"num_local_experts": 3}, "where 3 experts have 9"),
        ({}, {"num_local_experts": "2"}, "num_local_experts"),
        ({}, {"num_local_experts": 10**12}, "num_local_experts"),
    ],
)
def test_experts_that_do_not_fit_are_refused(mixtral, changed, config, said):
    with pytest.raises(ModelRefused, match=said):
        convert(mixtral(changed, **config), "f16")


def reconfigured(path, config):
    (path / "config.json").write_text(json.dumps(json.loads((path / "config.json").read_text()) | config))
    return path


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["NemotronHForCausalLM"], "hybrid_override_pattern": "M?"},
        {"architectures": ["NemotronHForCausalLM"], "hybrid_override_pattern": 5},
        {"architectures": ["GraniteMoeHybridForCausalLM"], "layer_types": ["attention"]},
        {"architectures": ["GraniteMoeHybridForCausalLM"], "attn_layer_period": 0, "attn_layer_offset": 0},
        {"architectures": ["Mamba2ForCausalLM"], "num_hidden_layers": "2"},
        {"architectures": ["Mamba2ForCausalLM"], "n_groups": -1},
        {"architectures": ["Lfm2ForCausalLM"], "layer_types": 7},
        {"architectures": ["Qwen3NextForCausalLM"], "full_attention_interval": 0},
        {"architectures": ["NomicBertModel"], "n_layer": None},
        {"architectures": ["Gemma3nForCausalLM"], "intermediate_size": "all"},
    ],
    ids=str,
)
def test_settings_of_layers_that_make_no_sense_are_refused(config, tiny_checkpoint):
    with pytest.raises(ModelRefused, match=r"config\.json"):
        convert(open_checkpoint(reconfigured(tiny_checkpoint(), config)), "f16")


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ([{"type": "x.Pooling", "path": "../elsewhere"}], "elsewhere"),
        ([{"type": "x.Pooling", "path": "1_Pooling"}], "1_Pooling"),
    ],
)
def test_a_pooling_module_that_is_not_there_is_refused(modules, said, tiny_checkpoint):
    path = tiny_checkpoint()
    (path / "modules.json").write_text(json.dumps(modules))
    (path.parent / "elsewhere").mkdir()
    (path.parent / "elsewhere" / "config.json").write_text("{}")
    with pytest.raises(ModelRefused, match=said):
        open_checkpoint(path)
