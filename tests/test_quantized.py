"""Checkpoints that other tools quantized come back as floats.

``data/quantized.json.gz`` holds hashes of what ``convert_hf_to_gguf.py`` b11434 wrote of tiny quantized models, where
it can read the scheme. The others are compared with their formulas, worked out value by value.
"""

import gzip
import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from ollamaq.checkpoint import open_checkpoint
from ollamaq.checkpoint.quantized import restored
from ollamaq.checkpoint.safetensors import EIGHT_BITS, read_safetensors
from ollamaq.convert import convert
from ollamaq.errors import ModelRefused
from ollamaq.quantize import kernels
from ollamaq.quantize.dequantize import dequantize
from ollamaq.tensors import to_bf16, to_float32

GOLDENS = json.loads(gzip.decompress((Path(__file__).parent / "data" / "quantized.json.gz").read_bytes()))
NUMPY = {"I32": np.int32, "I64": np.int64, "U8": np.uint8, "F32": np.float32, "F16": np.float16, "I8": np.int8}


def seeded(name, dtype, shape, values=None):
    """A tensor with these values, or with some from a seed of its name."""
    if values is not None:
        return dtype, shape, np.array(values, NUMPY[dtype]).tobytes()
    random = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    if dtype in ("U8", "I8"):
        return dtype, shape, random.integers(0, 256, shape, dtype=np.uint8).tobytes()
    if dtype in ("I32", "U32"):
        return dtype, shape, random.integers(0, 1 << 32, shape, dtype=np.uint32).tobytes()
    if dtype == "F8_E4M3":
        codes = random.integers(0, 256, shape, dtype=np.uint8)
        return dtype, shape, np.where(codes & 127 == 127, 0, codes).astype(np.uint8).tobytes()
    floats = random.standard_normal(shape, dtype=np.float32) * np.float32(0.05)
    if dtype == "BF16":
        bits = floats.view(np.uint32)
        return dtype, shape, ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
    return dtype, shape, floats.astype(NUMPY[dtype]).tobytes()


@pytest.mark.parametrize("scheme", GOLDENS)
def test_weights_are_those_of_the_converter(scheme, tiny_checkpoint, write_safetensors):
    golden = GOLDENS[scheme]
    path = tiny_checkpoint(scheme)
    (path / "config.json").write_text(golden["config"])
    write_safetensors(path / "model.safetensors", {n: seeded(n, *spec) for n, spec in golden["tensors"].items()})
    checkpoint = open_checkpoint(path)
    assert checkpoint.quantized.startswith("weights were")
    tensors = convert(checkpoint, "f16").tensors
    written = {t.name: hashlib.sha256(t.rows(0, t.n_rows).tobytes()).hexdigest() for t in tensors}
    assert list(written.items()) == list(golden["written"].items())
    for tensor in tensors:  # a few rows at a time give the same
        rows = [tensor.rows(at, min(at + 7, tensor.n_rows)) for at in range(0, tensor.n_rows, 7)]
        assert hashlib.sha256(np.concatenate(rows).tobytes()).hexdigest() == written[tensor.name]


@pytest.fixture
def open_quantized(tmp_path, write_safetensors):
    """Tensors of a safetensors file, restored as ``quantization_config`` says."""

    def open_(stored, config=None, **settings):
        write_safetensors(tmp_path / "model.safetensors", stored)
        tensors = read_safetensors(tmp_path / "model.safetensors")
        return restored(tensors, config or {"quantization_config": settings}, tmp_path / "config.json")[0]

    return open_


def array(dtype, values):
    values = np.asarray(values)
    return dtype, list(values.shape), values.astype(NUMPY.get(dtype, np.uint8)).tobytes()


def values_of(tensor, rows=3):
    """All the values of a tensor, read some rows at a time."""
    parts = [tensor.rows(at, min(at + rows, tensor.n_rows)) for at in range(0, tensor.n_rows, rows)]
    return to_float32(np.concatenate(parts)).reshape(tensor.shape)


def random(*shape, high=256, seed=7):
    return np.random.default_rng(seed).integers(0, high, shape)


def packed(codes, bits):
    """Codes along the last axis as one stream of bits, in 32-bit words."""
    stream = (codes[..., None] >> np.arange(bits) & 1).reshape(*codes.shape[:-1], -1)
    stream = stream.astype(np.uint64)
    return (stream.reshape(*codes.shape[:-1], -1, 32) << np.arange(32, dtype=np.uint64)).sum(-1).astype(np.uint32)


NF4 = np.sort(np.random.default_rng(5).standard_normal(16)).astype(np.float32)


def bnb_state(**state):
    text = json.dumps({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [6, 48]} | state).encode()
    return "U8", [len(text)], text


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_four_bits_of_bitsandbytes(nested, dtype, open_quantized):
    codes = random(6 * 48, high=16)
    absmax = np.random.default_rng(1).random(5).astype(np.float32)
    stored = {
        "w.weight": array("U8", (codes[::2] << 4 | codes[1::2])[:, None]),
        "w.weight.quant_map": array("F32", NF4),
        "w.weight.absmax": array("F32", absmax),
        "w.weight.quant_state.bitsandbytes__nf4": bnb_state(dtype=dtype),
    }
    if nested:
        levels, outer = np.linspace(-1, 1, 256).astype(np.float32), np.array([0.5, 2, 3], np.float32)
        which = random(5)
        absmax = [np.float32(levels[which[i]] * outer[i // 2]) + np.float32(0.25) for i in range(5)]
        stored |= {
            "w.weight.absmax": array("U8", which),
            "w.weight.nested_absmax": array("F32", outer),
            "w.weight.nested_quant_map": array("F32", levels),
            "w.weight.quant_state.bitsandbytes__nf4": bnb_state(
                dtype=dtype, nested_blocksize=2, nested_offset=0.25, nested_dtype="float32"
            ),
        }
    tensors = open_quantized(stored, quant_method="bitsandbytes", load_in_4bit=True)
    assert list(tensors) == ["w.weight"]
    exact = np.array([NF4[code] * absmax[i // 64] for i, code in enumerate(codes)], np.float32)
    found = values_of(tensors["w.weight"])
    assert found.shape == (6, 48)
    if dtype == "float32":
        assert found.reshape(-1).tolist() == exact.tolist()
    elif dtype == "float16":
        assert found.reshape(-1).tolist() == exact.astype(np.float16).tolist()
    else:
        assert np.abs(found.reshape(-1) - exact).max() <= np.abs(exact).max() / 256
        assert not (found.view(np.uint32) & 0xFFFF).any()


def test_eight_bits_of_bitsandbytes(open_quantized):
    codes, scale = random(4, 6) - 128, [0.5, 1, 2, 4]
    stored = {"w.weight": array("I8", codes), "w.SCB": array("F32", scale), "w.weight_format": array("U8", 0)}
    (tensor,) = open_quantized(stored, quant_method="bitsandbytes", load_in_8bit=True).values()
    expected = [
        [np.float32(c) * np.float32(s) * np.float32(1 / 127) for c in row] for row, s in zip(codes, scale, strict=True)
    ]
    np.testing.assert_allclose(values_of(tensor), expected, rtol=1e-6)


def test_three_bits_of_gptq_cross_words(open_quantized):
    codes, zeros = random(64, 32, high=8), random(2, 32, high=8, seed=8)
    scales = np.random.default_rng(2).random((2, 32)).astype(np.float16)
    stored = {
        "w.qweight": array("I32", packed(codes.T, 3).T.view(np.int32)),
        "w.qzeros": array("I32", packed(zeros, 3).view(np.int32)),
        "w.scales": array("F16", scales),
    }
    (tensor,) = open_quantized(stored, quant_method="gptq", bits=3, group_size=32).values()
    expected = [
        [np.float32(scales[i // 32, o]) * (codes[i, o] - zeros[i // 32, o] - 1) for i in range(64)] for o in range(32)
    ]
    assert values_of(tensor).tolist() == np.array(expected, np.float32).tolist()


AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""AutoAWQ's ``order_map``: the output that each four bits of a word hold."""


def test_awq_for_matrices(open_quantized):
    codes, zeros = random(64, 24, high=16), random(2, 24, high=16, seed=3)
    scales = np.random.default_rng(2).random((2, 24)).astype(np.float16)

    def words(rows):
        out = np.zeros((len(rows), 3), np.uint32)
        for word in range(3):
            for place, output in enumerate(AWQ_ORDER):
                out[:, word] |= (rows[:, 8 * word + output] << (4 * place)).astype(np.uint32)
        return out.view(np.int32)

    stored = {
        "w.qweight": array("I32", words(codes)),
        "w.qzeros": array("I32", words(zeros)),
        "w.scales": array("F16", scales),
    }
    (tensor,) = open_quantized(stored, quant_method="awq", bits=4, group_size=32, version="gemm").values()
    expected = [
        [np.float16(np.float32(scales[i // 32, o]) * (codes[i, o] - zeros[i // 32, o])) for i in range(64)]
        for o in range(24)
    ]
    assert tensor.type is Type.F16
    assert values_of(tensor, rows=5).tolist() == np.array(expected, np.float32).tolist()


def test_awq_for_vectors(open_quantized):
    codes, zeros = random(6, 64, high=16), random(6, 8, high=16, seed=3)
    scales = np.random.default_rng(2).random((6, 8)).astype(np.float16)
    stored = {
        "w.qweight": array("I32", packed(codes, 4).view(np.int32)),
        "w.qzeros": array("I32", packed(zeros, 4).view(np.int32)),
        "w.scales": array("F16", scales),
    }
    (tensor,) = open_quantized(stored, quant_method="awq", bits=4, group_size=32, version="GEMV").values()
    expected = [
        [np.float16(np.float32(scales[o, i // 32]) * (codes[o, i] - zeros[o, i // 32])) for i in range(64)]
        for o in range(6)
    ]
    assert values_of(tensor).tolist() == np.array(expected, np.float32).tolist()


TORCHAO = json.loads(gzip.decompress((Path(__file__).parent / "data" / "torchao.json.gz").read_bytes()))
"""What torchao 0.18 saved of weights in BF16, as safetensors, and what it made of them itself."""


@pytest.mark.parametrize("kind", TORCHAO)
def test_integers_of_torchao(kind, open_quantized):
    stored = {
        name: (dtype, shape, bytes.fromhex(data)) for name, (dtype, shape, data) in TORCHAO[kind]["stored"].items()
    }
    (tensor,) = open_quantized(stored, quant_method="torchao").values()
    assert tensor.name == "0.weight"
    ours = to_bf16(values_of(tensor))  # scales in float32 give finer weights than torchao's own
    assert ours.tobytes().hex() == TORCHAO[kind]["weight"][2]


E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6]


@pytest.mark.parametrize("by", ["modelopt", "compressed-tensors"])
def test_four_bit_floats(by, open_quantized):
    codes, scale, overall = random(4, 32, high=16), random(4, 2, high=120), np.float32(3)
    halves = array("U8", codes[:, 1::2] << 4 | codes[:, ::2])
    each = EIGHT_BITS["F8_E4M3"][scale]
    if by == "modelopt":
        stored = {
            "w.weight": halves,
            "w.weight_scale": array("F8_E4M3", scale),
            "w.weight_scale_2": array("F32", overall),
        }
        tensors = open_quantized(stored | {"w.input_scale": array("F32", 1)}, quant_method=by, quant_algo="NVFP4")
        factors = each * overall
    else:
        stored = {
            "w.weight_packed": halves,
            "w.weight_scale": array("F8_E4M3", scale),
            "w.weight_global_scale": array("F32", [overall]),
        }
        weights = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
        groups = {"group_0": {"weights": weights, "format": None}}
        tensors = open_quantized(stored, quant_method=by, format="nvfp4-pack-quantized", config_groups=groups)
        factors = each / overall
    assert list(tensors) == ["w.weight"]
    expected = [[np.float32(E2M1[codes[r, c]]) * factors[r, c // 16] for c in range(32)] for r in range(4)]
    assert values_of(tensors["w.weight"]).tolist() == np.array(expected, np.float32).tolist()


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_affine_groups_of_mlx(bits, open_quantized):
    codes = random(5, 64, high=1 << bits)
    scales, biases = np.random.default_rng(4).standard_normal((2, 5, 2)).astype(np.float16)
    stored = {
        "w.weight": ("U32", [5, 2 * bits], packed(codes, bits).tobytes()),
        "w.scales": array("F16", scales),
        "w.biases": array("F16", biases),
        "norm.weight": array("F16", [1.0] * 4),
    }
    tensors = open_quantized(stored, {"quantization": {"group_size": 32, "bits": bits}})
    assert sorted(tensors) == ["norm.weight", "w.weight"]
    expected = [
        [codes[r, c] * np.float32(scales[r, c // 32]) + np.float32(biases[r, c // 32]) for c in range(64)]
        for r in range(5)
    ]
    assert values_of(tensors["w.weight"]).tolist() == np.array(expected, np.float32).tolist()


def test_a_layer_of_mlx_may_have_bits_of_its_own(open_quantized):
    codes = random(2, 32, high=256)
    stored = {
        "w.weight": ("U32", [2, 8], packed(codes, 8).tobytes()),
        "w.scales": array("F16", [[1.0]] * 2),
        "w.biases": array("F16", [[0.0]] * 2),
    }
    settings = {"group_size": 64, "bits": 4, "w": {"group_size": 32, "bits": 8}}
    (tensor,) = open_quantized(stored, {"quantization": settings}).values()
    assert values_of(tensor).tolist() == codes.tolist()


def test_blocks_of_stacked_experts(open_quantized):
    codes, scale = random(3, 5, 6, high=120), np.random.default_rng(4).random((3, 2, 2)).astype(np.float32)
    stored = {"w.weight": array("F8_E4M3", codes), "w.weight_scale_inv": array("F32", scale)}
    (tensor,) = open_quantized(stored, quant_method="fp8", weight_block_size=[3, 4]).values()
    floats = EIGHT_BITS["F8_E4M3"][codes]
    expected = [[[floats[e, r, c] * scale[e, r // 3, c // 4] for c in range(6)] for r in range(5)] for e in range(3)]
    assert values_of(tensor, rows=4).tolist() == np.array(expected, np.float32).tolist()


def test_eight_bit_floats_are_those_of_the_standard():
    e4m3, e5m2, e8m0 = (EIGHT_BITS[name] for name in ("F8_E4M3", "F8_E5M2", "F8_E8M0"))
    assert [e4m3[code] for code in (0x00, 0x01, 0x08, 0x38, 0x7E, 0xC0)] == [0, 2**-9, 2**-6, 1, 448, -2]
    assert np.isnan(e4m3[[0x7F, 0xFF]]).all()
    assert np.isfinite(np.delete(e4m3, [0x7F, 0xFF])).all()
    assert [e5m2[code] for code in (0x01, 0x3C, 0x7B, 0xBC)] == [2**-16, 1, 57344, -1]
    assert np.isinf(e5m2[0x7C])
    assert [e8m0[code] for code in (0, 127, 254)] == [2.0**-127, 1, 2.0**127]
    assert np.isnan(e8m0[255])


WORDS = {
    "w.qweight": array("I32", random(8, 8)),
    "w.qzeros": array("I32", random(2, 1)),
    "w.scales": array("F16", random(2, 8)),
}
HOSTILE = {
    "an unknown scheme": ({}, {"quant_method": "hqq"}, "quantized by 'hqq', which cannot be read"),
    "no scheme": ({}, {}, "quantized by None, which cannot be read"),
    "five bits": (WORDS, {"quant_method": "gptq", "bits": 5}, "weights of 5 bits"),
    "no bits": (WORDS, {"quant_method": "gptq"}, "it lacks or misstates 'bits'"),
    "bits that are text": (WORDS, {"quant_method": "gptq", "bits": "4"}, "weights of '4' bits"),
    "marlin": (WORDS, {"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, "the format 'marlin'"),
    "zeros of another shape": (WORDS, {"quant_method": "gptq", "bits": 8}, r"w.qzeros has the shape \[2, 1\]"),
    "no scales": (
        {k: v for k, v in WORDS.items() if k != "w.scales"},
        {"quant_method": "gptq", "bits": 4},
        "lacks its",
    ),
    "a group of none": (
        WORDS,
        {"quant_method": "awq", "bits": 4, "group_size": "x"},
        "in groups of 'x' cannot be read",
    ),
    "blocks of none": (
        {"w.weight": array("F8_E4M3", random(4, 4, high=9)), "w.weight_scale_inv": array("F32", [[1.0]])},
        {"quant_method": "fp8", "weight_block_size": [0, 4]},
        r"blocks of \[0, 4\]",
    ),
    "too few scales": (
        {"w.weight": array("F8_E4M3", random(4, 4, high=9)), "w.weight_scale_inv": array("F32", [[1.0]])},
        {"quant_method": "fp8", "weight_block_size": [2, 2]},
        r"w.weight_scale_inv has the shape \[1, 1\]",
    ),
    "a scale without a weight": (
        {"w.weight_scale_inv": array("F32", [[1.0]])},
        {"quant_method": "fp8"},
        "it lacks or misstates 'w.weight'",
    ),
    "a huge shape": (
        {
            "w.weight": array("U8", random(8, 1)),
            "w.weight.absmax": array("F32", [1.0]),
            "w.weight.quant_map": array("F32", NF4),
            "w.weight.quant_state.bitsandbytes__nf4": bnb_state(shape=[1 << 40, 1 << 20]),
        },
        {"quant_method": "bitsandbytes"},
        "has 8 bytes for the shape",
    ),
    "a state that is no JSON": (
        {"w.weight": array("U8", random(8, 1)), "w.weight.quant_state.bitsandbytes__nf4": array("U8", [1, 2])},
        {"quant_method": "bitsandbytes"},
        "they are damaged",
    ),
    "a packed layout of torchao": (
        {"w._weight_qdata": array("I8", random(4, 4)), "w._weight_scale_and_zero": array("F16", [1.0])},
        {"quant_method": "torchao"},
        "w._weight_scale_and_zero belongs to a layout that cannot be read",
    ),
    "codes of torchao in words": (
        {"w._weight_qdata": array("I32", random(4, 4)), "w._weight_scale": array("F16", [[1.0]] * 4)},
        {"quant_method": "torchao"},
        "w._weight_qdata holds no 8-bit rows",
    ),
    "scales of torchao for other rows": (
        {"w._weight_qdata": array("I8", random(4, 4)), "w._weight_scale": array("F16", [[1.0]] * 3)},
        {"quant_method": "torchao"},
        r"w._weight_scale has the shape \[3, 1\]",
    ),
    "groups that differ": (
        {},
        {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": {"a": {"weights": {"num_bits": 4}}, "b": {"weights": {"num_bits": 8}}},
        },
        "2 groups of settings that differ",
    ),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_does_not_fit_is_one_sentence(hostile, open_quantized):
    stored, settings, said = HOSTILE[hostile]
    with pytest.raises(ModelRefused, match=said) as refused:
        open_quantized({"norm.weight": array("F16", [1.0])} | stored, **settings)
    assert "config.json" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.next_step


@pytest.mark.parametrize(
    "scheme", ["hqq", "aqlm", "exl2", "exl3", "eetq", "quanto", "vptq", "higgs", "spqr", "fbgemm_fp8"]
)
def test_a_scheme_that_cannot_be_read_is_named_with_those_that_can(scheme, open_quantized):
    with pytest.raises(
        ModelRefused, match=f"says the weights are quantized by '{scheme}', which cannot be read"
    ) as told:
        open_quantized({"w.weight": array("U8", random(8, 1))}, quant_method=scheme)
    assert "give the 16-bit model, or one in awq, bitnet, bitsandbytes" in told.value.next_step


def test_inputs_in_a_group_that_is_not_there_are_refused_when_they_are_read(open_quantized):
    stored = {
        "w.qweight": array("I32", random(8, 8)),
        "w.qzeros": array("I32", random(2, 1)),
        "w.scales": array("F16", random(2, 8)),
        "w.g_idx": array("I32", [7] * 64),
    }
    (tensor,) = open_quantized(stored, quant_method="gptq", bits=4).values()
    with pytest.raises(ModelRefused, match="inputs in group 7 of 2"):
        tensor.rows(0, 1)


def lattice(type_, rows=64, width=512):
    """Weights that lie on the lattice of a type: its own blocks, read back."""
    values = np.random.default_rng(9).standard_normal((rows, width), np.float32) * np.float32(0.05)
    out = np.empty((rows, kernels.row_bytes(type_, width)), np.uint8)
    kernels.quantize(Type.F32, values, type_, out)
    return dequantize(type_, out)


@pytest.mark.parametrize(
    "type_", [Type.Q4_0, Type.Q8_0, Type.Q5_0, Type.MXFP4, Type.TQ2_0], ids=lambda type_: type_.name
)
def test_weights_that_were_trained_on_a_lattice_lose_nothing_on_it(type_):
    values = lattice(type_)
    out = np.empty((len(values), kernels.row_bytes(type_, values.shape[1])), np.uint8)
    kernels.quantize(Type.F32, values, type_, out)
    assert np.array_equal(dequantize(type_, out), values)
