"""Blocks read back give the bits of llama.cpp's code: ``to_float`` of the libggml-python wheel."""

import ctypes
from functools import cache
from importlib.metadata import files

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type

from ollamaq.errors import ModelRefused
from ollamaq.gguf.types import Q2_0
from ollamaq.quantize import kernels
from ollamaq.quantize.dequantize import FLOATS, UNPACKED, as_floats, dequantize
from ollamaq.tensors import Tensor

EVERY_BLOCK = pytest.mark.parametrize("type_", sorted(UNPACKED - FLOATS - {Q2_0}), ids=lambda type_: type_.name)


class Traits(ctypes.Structure):
    """``struct ggml_type_traits`` of ``ggml.h``."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        ("from_float_ref", ctypes.c_void_p),
    )


@cache
def reference():
    path = next(file.locate() for file in files("libggml-python") if file.name == "libggml-base.so")
    library = ctypes.CDLL(str(path))
    library.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
    return library


def theirs(type_, rows):
    traits = reference().ggml_get_type_traits(int(type_)).contents
    assert (traits.type_name.decode().upper(), traits.type_size) == (type_.name, GGML_QUANT_SIZES[type_][1])
    out = np.empty((len(rows), rows.shape[1] // traits.type_size * traits.blck_size), np.float32)
    rows = np.ascontiguousarray(rows)
    traits.to_float(rows.ctypes.data, out.ctypes.data, out.size)
    return out


def random_blocks(type_, n_rows=37, blocks_a_row=3):
    size = GGML_QUANT_SIZES[type_][1]
    return np.random.default_rng(2026).integers(0, 256, (n_rows, blocks_a_row * size), np.uint8)


@EVERY_BLOCK
def test_any_block_gives_the_bits_of_llama_cpp(type_):
    rows = random_blocks(type_)
    found, expected = dequantize(type_, rows), theirs(type_, rows)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    numbers = ~np.isnan(expected)
    assert (np.isnan(found) == ~numbers).all()
    assert (found.view(np.uint32)[numbers] == expected.view(np.uint32)[numbers]).all()
    assert numbers.mean() > 0.8


@EVERY_BLOCK
def test_a_flipped_bit_is_seen(type_):
    rows = random_blocks(type_, 1, 1) & 0x3F
    before = dequantize(type_, rows)
    rows[0, len(rows[0]) // 2] ^= 1
    assert (before.view(np.uint32) != dequantize(type_, rows).view(np.uint32)).any()


def test_what_the_kernels_write_reads_back_close_to_the_weights():
    rows = np.random.default_rng(1).standard_normal((3, 256), np.float32)
    for type_ in (Type.Q8_0, Type.Q4_K, Type.Q6_K, Type.Q1_0, Type.NVFP4):
        out = np.empty((3, kernels.row_bytes(type_, 256)), np.uint8)
        kernels.quantize(Type.F32, rows, type_, out)
        error = np.abs(dequantize(type_, out) - rows).max()
        assert error < (4 if type_ is Type.Q1_0 else 0.6)


def test_codes_of_two_bits_are_from_minus_one_to_two():  # the wheel has no Q2_0; llama-quantize reads it in integration
    block = np.array([0, 0x38, 0b11100100, *[0b01010101] * 15], np.uint8)  # a scale of 0.5
    assert dequantize(Q2_0, block[None]).tolist() == [[-0.5, 0, 0.5, 1, *[0] * 60]]


def test_floats_widen_exactly():
    values = np.array([[1.5, -0.0, 65504, 2.0**-24]], np.float32)
    halves = dequantize(Type.F16, values.astype(np.float16))
    bits = dequantize(Type.BF16, np.array([[0x3F80, 0x8000, 0x7F7F]], np.uint16))
    assert (halves.view(np.uint32) == values.view(np.uint32)).all()
    assert (bits.view(np.uint32) == [[0x3F800000, 0x80000000, 0x7F7F0000]]).all()
    assert dequantize(Type.F32, values) is values


def test_no_rows_give_no_values():
    for type_ in UNPACKED - FLOATS:
        block, size = GGML_QUANT_SIZES[type_]
        assert dequantize(type_, np.empty((0, 2 * size), np.uint8)).shape == (0, 2 * block)


def test_a_tensor_is_unpacked_when_its_rows_are_asked_for():
    rows, asked = random_blocks(Type.Q4_K, 6), []

    def read(start, stop):
        asked.append((start, stop))
        return rows[start:stop]

    floats = as_floats(Tensor("experts", Type.Q4_K, (2, 3, 768), read))
    assert (floats.name, floats.type, floats.shape, floats.n_rows) == ("experts", Type.F32, (2, 3, 768), 6)
    assert not asked
    assert floats.rows(2, 5).tobytes() == dequantize(Type.Q4_K, rows)[2:5].tobytes()
    assert asked == [(2, 5)]


@pytest.mark.parametrize("type_", [Type.Q8_K, Type.Q8_1, Type.I32, Type.F64], ids=lambda type_: type_.name)
def test_other_types_are_refused_by_name(type_):
    with pytest.raises(ModelRefused, match=f"type {type_.name} cannot be read back") as refused:
        dequantize(type_, np.empty((1, 292), np.uint8))
    assert refused.value.next_step
    with pytest.raises(ModelRefused, match=f"'x' is of type {type_.name}"):
        as_floats(Tensor("x", type_, (1, 256), lambda start, stop: np.empty((1, 292), np.uint8)))
