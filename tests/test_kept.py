"""Quantized weights that stay as they are under ``--outtype keep``: no number changes.

``data/kept.json.gz`` holds what ``convert_hf_to_gguf.py`` b11434 wrote of tiny models in NVFP4, which it keeps too.
Other schemes are held against their floats: blocks give them back, bit for bit.
"""

import gzip
import hashlib
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from typer.testing import CliRunner

from ollamaq.checkpoint import open_checkpoint
from ollamaq.checkpoint.quantized.modelopt import E2M1
from ollamaq.checkpoint.safetensors import EIGHT_BITS
from ollamaq.cli import app
from ollamaq.convert import convert
from ollamaq.quantize import kernels
from ollamaq.quantize.dequantize import dequantize
from ollamaq.quantize.lattice import LATTICES, exact_blocks
from ollamaq.tensors import to_float32

converting = importlib.import_module("ollamaq.convert")
GOLDENS = json.loads(gzip.decompress((Path(__file__).parent / "data" / "kept.json.gz").read_bytes()))
NUMPY = {"I32": np.int32, "F32": np.float32, "F16": np.float16, "U8": np.uint8, "I8": np.int8, "F8_E4M3": np.uint8}


def array(dtype, values):
    values = np.asarray(values)
    if dtype == "BF16":
        return dtype, list(values.shape), (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return dtype, list(values.shape), values.astype(NUMPY[dtype]).tobytes()


@pytest.fixture
def golden_checkpoint(tiny_checkpoint, write_safetensors, seeded):
    """The directory of a golden, with changes to its tensors."""

    def make(name, **changed):
        path = tiny_checkpoint(name)
        (path / "generation_config.json").unlink()
        for file, text in GOLDENS[name]["files"].items():
            (path / file).write_text(text)
        tensors = {tensor: seeded(tensor, *spec) for tensor, spec in GOLDENS[name]["tensors"].items()}
        write_safetensors(path / "model.safetensors", tensors | changed)
        return path

    return make


@pytest.mark.parametrize("name", GOLDENS)
def test_four_bit_floats_are_kept_as_the_converter_keeps_them(name, golden_checkpoint, monkeypatch, plain):
    monkeypatch.setattr(converting, "vocabulary", lambda *given, **options: {})  # tests/test_tokenizers.py has those
    golden = GOLDENS[name]
    model = convert(open_checkpoint(golden_checkpoint(name)), "keep")
    assert list({key: plain(value) for key, value in model.metadata.items()}.items()) == list(
        golden["metadata"].items()
    )
    written = {t.name: [t.type.name, hashlib.sha256(t.rows(0, t.n_rows).tobytes()).hexdigest()] for t in model.tensors}
    assert list(written.items()) == list(golden["written"].items())
    assert {t.name: list(t.shape) for t in model.tensors} == golden["shapes"]


def test_blocks_of_four_bit_floats_are_codes_times_their_scales(golden_checkpoint, seeded):
    path = golden_checkpoint("nvfp4-modelopt")
    name = "model.layers.0.mlp.down_proj.weight"
    codes = np.frombuffer(seeded(name, "U8", [64, 64])[2], np.uint8).reshape(64, 64)
    scales = np.frombuffer(seeded(f"{name}_scale", "F8_E4M3", [64, 8])[2], np.uint8).reshape(64, 8)
    values = E2M1[np.stack((codes & 15, codes >> 4), axis=-1).reshape(64, 128)]
    kept = open_checkpoint(path).kept()[name]
    blocks = np.concatenate([kept.blocks.rows(at, min(at + 7, 64)) for at in range(0, 64, 7)])
    assert np.array_equal(dequantize(Type.NVFP4, blocks), values * np.repeat(EIGHT_BITS["F8_E4M3"][scales], 16, axis=1))


def test_float_outtypes_unpack_four_bit_floats(golden_checkpoint):
    types = {tensor.type for tensor in convert(open_checkpoint(golden_checkpoint("nvfp4-modelopt")), "bf16").tensors}
    assert types == {Type.BF16, Type.F32}


@pytest.mark.parametrize(
    ("name", "stays"),
    [("self_attn.k_proj", "blk.0.attn_k.weight"), ("mlp.experts.2.up_proj", "blk.0.ffn_up_exps.weight")],
)
def test_scales_with_a_sign_do_not_fit_and_their_weights_stay_floats(name, stays, golden_checkpoint, seeded):
    scale = f"model.layers.0.{name}.weight_scale"
    shape = GOLDENS["nvfp4-experts"]["tensors"][scale][1]
    changed = {scale: ("F8_E4M3", shape, bytes([0x81]) + seeded(scale, "F8_E4M3", shape)[2][1:])}
    model = convert(open_checkpoint(golden_checkpoint("nvfp4-experts", **changed)), "keep")
    types = {tensor.name: tensor.type for tensor in model.tensors}
    assert types[stays] is Type.BF16
    assert f"{stays.removesuffix('.weight')}.scale" not in types
    assert types["blk.0.attn_q.weight"] is Type.NVFP4


def half(low, high):
    return st.floats(low, high, width=16).map(np.float32)


@st.composite
def on_lattice(draw, type_, ends=False):
    """Rows on the lattice of a type, each with a scale of its own; with ``ends`` each has both of its ends."""
    lattice = LATTICES[type_]
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        sign = 1 if ends and lattice.offset else draw(st.sampled_from([1, -1]))  # the offset is the least number then
        scale = draw(half(2**-14, 4)) * sign
        offset = np.float32(np.float16(draw(st.floats(-24, 8, width=16)) * scale)) if lattice.offset else np.float32(0)
        codes = draw(arrays.arrays(np.int32, 32, elements=st.integers(lattice.low, lattice.high)))
        first = draw(st.integers(lattice.low, lattice.high - 1))
        codes[:2] = (lattice.low, lattice.high) if ends else (first, first + 1)
        rows.append(codes.astype(np.float32) * scale + offset)
    return np.array(rows, np.float32)


@pytest.mark.parametrize("type_", LATTICES, ids=lambda type_: type_.name)
@settings(max_examples=30)
@given(data=st.data())
def test_numbers_on_a_lattice_are_found_to_be_there(type_, data):
    values = data.draw(on_lattice(type_))
    assert np.array_equal(dequantize(type_, exact_blocks(values, type_)), values)


@pytest.mark.parametrize("type_", LATTICES, ids=lambda type_: type_.name)
@settings(max_examples=30)
@given(data=st.data())
def test_one_number_beside_the_lattice_is_enough_to_leave_it(type_, data):
    values = data.draw(on_lattice(type_))
    values[-1, 5] = np.nextafter(values[-1, 0], np.float32(99))
    blocks = exact_blocks(values, type_)
    assert blocks is None or np.array_equal(dequantize(type_, blocks), values)


@pytest.mark.parametrize("values", [np.full((1, 32), np.nan), np.full((1, 32), np.inf), np.full((1, 32), 1e6)])
@pytest.mark.parametrize("type_", LATTICES, ids=lambda type_: type_.name)
def test_what_sixteen_bits_do_not_hold_is_on_no_lattice(type_, values):
    assert type_ is Type.Q8_0 or exact_blocks(values.astype(np.float32), type_) is None


def quantized(values, type_):
    """What llama.cpp's quantizer makes of rows."""
    out = np.empty((len(values), kernels.row_bytes(type_, values.shape[1])), np.uint8)
    kernels.quantize(Type.F32, values, type_, out)
    return dequantize(type_, out)


@pytest.mark.parametrize("type_", [Type.Q4_0, Type.Q5_0, Type.Q8_0, Type.Q4_1, Type.Q5_1], ids=lambda type_: type_.name)
@settings(max_examples=30)
@given(data=st.data())
def test_the_quantizer_finds_a_lattice_whose_ends_are_used(type_, data):
    values = data.draw(on_lattice(type_, ends=True))
    if type_ is Type.Q8_0:  # its quantizer divides the largest number by 127
        values = np.where(values == values[:, :1], -values[:, 1:2], values)  # instead of -128
    assert np.array_equal(quantized(values, type_), values)


@pytest.mark.parametrize("type_", [Type.Q4_0, Type.Q5_0, Type.Q8_0, Type.Q4_1, Type.Q5_1], ids=lambda type_: type_.name)
def test_the_quantizer_loses_a_lattice_whose_ends_are_not_used_and_keeping_does_not(type_):
    lattice = LATTICES[type_]
    values = np.linspace(0, 3, 32).round().astype(np.float32)[None] * np.float32(0.25)
    assert lattice.high > 3
    assert not np.array_equal(quantized(values, type_), values)
    assert np.array_equal(dequantize(type_, exact_blocks(values, type_)), values)


WORDS = np.random.default_rng(3).integers(0, 1 << 32, (32, 256), dtype=np.uint32).view(np.int32)
"""256 columns of 32 x 8 codes of 4 bits."""
SCALES = np.random.default_rng(4).random((256, 2), np.float32) / 64 + np.float32(0.001)
PACKED = {
    "num_bits": 4,
    "type": "int",
    "strategy": "group",
    "group_size": 128,
    "symmetric": True,
}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
MODULE = "model.layers.0.self_attn.q_proj"


def groups(format_, weights):
    return {
        "quant_method": "compressed-tensors",
        "format": format_,
        "config_groups": {"group_0": {"weights": weights}},
    }


SCHEMES = {
    "GPTQ of 4 bits": (
        GPTQ,
        {
            "qweight": array("I32", WORDS),
            "qzeros": array("I32", np.full((2, 32), 0x77777777)),
            "scales": array("F16", SCALES.T),
        },
        Type.Q4_0,
    ),
    "GPTQ of 8 bits": (
        GPTQ | {"bits": 8},
        {
            "qweight": array("I32", np.concatenate((WORDS, WORDS[::-1]))),
            "qzeros": array("I32", np.full((2, 64), 0x7F7F7F7F)),
            "scales": array("F16", SCALES.T),
        },
        Type.Q8_0,
    ),
    "GPTQ with scales that 16 bits do not hold": (
        GPTQ,
        {
            "qweight": array("I32", WORDS),
            "qzeros": array("I32", np.full((2, 32), 0x77777777)),
            "scales": array("F32", SCALES.T),
        },
        None,
    ),
    "compressed-tensors, packed": (
        groups("pack-quantized", PACKED),
        {
            "weight_packed": array("I32", WORDS.T),
            "weight_scale": array("BF16", SCALES),
            "weight_shape": array("I32", [256, 256]),
        },
        Type.Q4_0,
    ),
    "compressed-tensors of 8 bits": (
        groups("int-quantized", {"num_bits": 8, "type": "int", "strategy": "channel"}),
        {
            "weight": array("I8", np.random.default_rng(5).integers(-128, 128, (256, 256))),
            "weight_scale": array("BF16", SCALES[:, :1]),
        },
        Type.Q8_0,
    ),
    "MLX of 4 bits": (
        {"quant_method": "mlx", "bits": 4, "group_size": 128},
        {
            "weight": array("I32", WORDS.T),
            "scales": array("F16", -SCALES),
            "biases": array("F16", 7 * SCALES[:, ::-1]),
        },
        Type.Q4_1,
    ),
    "AWQ, whose weights are products rounded to 16 bits": (
        {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemv"},
        {
            "qweight": array("I32", WORDS.T),
            "qzeros": array("I32", np.full((256, 1), 0x88)),
            "scales": array("F16", SCALES),
        },
        None,
    ),
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_are_kept_where_no_number_changes(scheme, tiny_checkpoint, write_safetensors, seeded):
    settings, parts, type_ = SCHEMES[scheme]
    path = tiny_checkpoint(config={"quantization_config": settings})
    stored = {f"{MODULE}.{part}": tensor for part, tensor in parts.items()}
    shapes = {name: list(t.shape) for name, t in open_checkpoint(tiny_checkpoint("plain")).tensors.items()}
    others = {name: seeded(name, "BF16", shape) for name, shape in shapes.items() if not name.startswith(MODULE)}
    write_safetensors(path / "model.safetensors", others | stored)
    checkpoint = open_checkpoint(path)
    exact = {tensor.name: tensor for tensor in convert(checkpoint, "f32").tensors}
    kept = {tensor.name: tensor for tensor in convert(checkpoint, "keep").tensors}
    types = {name: tensor.type for name, tensor in kept.items() if tensor.type not in (Type.F32, Type.BF16, Type.F16)}
    assert types == ({"blk.0.attn_q.weight": type_} if type_ else {})
    for name, tensor in kept.items():
        values = dequantize(tensor.type, tensor.rows(0, tensor.n_rows))
        floats = to_float32(exact[name].rows(0, tensor.n_rows))
        if tensor.type not in (Type.BF16, Type.F16):
            assert values.tobytes() == floats.tobytes(), name


def test_the_number_of_kept_tensors_is_told(golden_checkpoint, tmp_path):
    path = golden_checkpoint("nvfp4-modelopt")
    result = CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "out.gguf"), "--outtype", "keep", "--json"])
    assert json.loads(result.stdout)["kept"] == {"NVFP4": 13}
    assert (tmp_path / "out.gguf").stat().st_size > 100_000
