"""Kernels give the bytes of llama.cpp's code: ``ggml_quantize_chunk`` of the libggml-python wheel (SSE2, no FMA)."""

import ctypes
import os
import subprocess
import sys
from functools import cache
from importlib.metadata import files

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ollamaq.errors import UsageError
from ollamaq.quantize import kernels
from ollamaq.quantize.kernels import Outcome

LEGACY = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL")
K_QUANTS = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
LOW_BIT = ("Q1_0", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4")
BLOCKS = [Type[name] for name in LEGACY + K_QUANTS + LOW_BIT]
WEIGHTED = [Type[name] for name in LEGACY[1:] + K_QUANTS]
WITHOUT_HALVES = (Type.MXFP4, Type.NVFP4)
SCALES = {
    Type.Q4_1: (0, 2),
    Type.Q5_1: (0, 2),
    Type.Q2_K: (80, 82),
    Type.Q3_K: (108,),
    Type.Q4_K: (0, 2),
    Type.Q5_K: (0, 2),
    Type.Q6_K: (208,),
    Type.TQ1_0: (52,),
    Type.TQ2_0: (64,),
    Type.MXFP4: (),
    Type.NVFP4: (),
}
"""Where a block has its half-precision scales; otherwise at the front."""
EVERY_LEVEL = pytest.mark.parametrize("level", kernels.LEVELS)
EVERY_TYPE = pytest.mark.parametrize("type_", BLOCKS, ids=lambda type_: type_.name)


@cache
def reference():
    path = next(file.locate() for file in files("libggml-python") if file.name == "libggml-base.so")
    library = ctypes.CDLL(str(path))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]
    return library


def theirs(type_, values, weights=None):
    out = np.zeros((len(values), kernels.row_bytes(type_, values.shape[1])), np.uint8)
    where = None if weights is None else weights.ctypes.data
    written = reference().ggml_quantize_chunk(type_, values.ctypes.data, out.ctypes.data, 0, *values.shape, where)
    assert written == out.size
    return out


def ours(type_, values, level, source=Type.F32, weights=None):
    out = np.full((len(values), kernels.row_bytes(type_, values.shape[1])), 0xAA, np.uint8)
    return out, kernels.quantize(source, values, type_, out, weights, kernels=kernels.load(level))


def finite_scales(type_, blocks):
    """Blocks whose scales are finite: the others are refused, so their bytes do not matter."""
    size = GGML_QUANT_SIZES[type_][1]
    blocks = blocks.reshape(-1, size)
    scales = [blocks[:, at : at + 2].copy().view(np.uint16).ravel() for at in SCALES.get(type_, (0,))]
    return np.all([np.ones(len(blocks), bool), *((scale & 0x7C00) != 0x7C00 for scale in scales)], axis=0)


def assert_equal(type_, values, level, weights=None):
    expected = theirs(type_, values, weights)
    found, outcome = ours(type_, values, level, weights=weights)
    good = finite_scales(type_, expected)
    assert outcome is (Outcome.DONE if good.all() else Outcome.OVERFLOW)
    size = GGML_QUANT_SIZES[type_][1]
    different = np.any(found.reshape(-1, size) != expected.reshape(-1, size), axis=1) & good
    assert not different.any(), f"block {np.argmax(different)} of {len(different)} differs"


def distributions():
    """256-wide rows of everything that weights are, and of what they should not be."""
    random = np.random.default_rng(2026)
    n = (96, 256)

    def normal(scale=1.0):
        return random.standard_normal(n) * scale

    sparse = normal() * (random.random(n) < 0.03)
    outlier = normal()
    outlier[:, ::64] *= 300
    signs = random.choice([-1.0, 1.0], n)
    yield "normal", normal(0.02)
    for exponent in (-42, -40, -30, -15, -8, 4, 8):
        yield f"normal-1e{exponent}", normal() * 10.0**exponent
    yield "uniform", random.uniform(-1, 1, n)
    yield "positive", random.uniform(0, 1, n)
    yield "negative", random.uniform(-1, 0, n)
    yield "student-t", random.standard_t(1.5, n)
    yield "cauchy", random.standard_cauchy(n)
    yield "zeros", np.zeros(n)
    yield "negative-zeros", np.where(random.random(n) < 0.5, -0.0, 0.0)
    yield "zeros-and-positive", np.where(random.random(n) < 0.5, -0.0, random.random(n))
    yield "constant", np.repeat(random.standard_normal((96, 1)), 256, axis=1)
    yield "constant-32", np.repeat(random.standard_normal((96, 8)), 32, axis=1)
    yield "constant-16", np.repeat(random.standard_normal((96, 16)), 16, axis=1)
    yield "subnormal", random.integers(-9, 9, n) * 1.401298464324817e-45
    yield "offset", 1000 + normal()
    yield "negative-offset", -1e6 + normal()
    yield "one-ulp", -1 + random.integers(-1, 2, n) * 2.0**-24
    yield "half-range", normal(20000.0)
    yield "beyond-half", normal(1e6)
    yield "sparse", sparse
    yield "outlier", outlier
    yield "two-valued", signs
    yield "same-magnitude", signs * np.repeat(random.random((96, 8)), 32, axis=1)
    yield "four-bit-grid", random.integers(-8, 8, n) * 0.0625
    yield "eight-bit-grid", random.integers(-127, 128, n) * 0.0078125
    yield "integers", random.integers(-100, 100, n).astype(float)
    yield "mixed-scales", normal() * np.repeat(10.0 ** random.integers(-6, 4, (96, 16)), 16, axis=1)
    yield "one-tiny-part", normal() * np.repeat(np.where(random.random((96, 8)) < 0.5, 1, 1e-12), 32, axis=1)
    yield "nearly-constant", -3.5 + np.where(random.random(n) < 0.02, normal(1e-6), 0)
    yield "bfloat16", (normal(0.05).astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


DISTRIBUTIONS = {name: np.ascontiguousarray(values, np.float32) for name, values in distributions()}


@EVERY_LEVEL
@EVERY_TYPE
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_bytes_equal_the_reference(distribution, type_, level):
    assert_equal(type_, DISTRIBUTIONS[distribution], level)


def importances():
    """Weights of 256 values: what an importance matrix holds, and what it should not."""
    random = np.random.default_rng(2027)
    some = random.random(256)
    some[::3] = 0
    one = np.zeros(256)
    one[5] = 1
    yield "uniform", random.random(256)
    yield "ones", np.ones(256)
    yield "heavy", random.standard_cauchy(256) ** 2
    yield "tiny", random.random(256) * 1e-30
    yield "some-zeros", some
    yield "zeros", np.zeros(256)
    yield "one", one


IMPORTANCES = {name: np.ascontiguousarray(values, np.float32) for name, values in importances()}


@EVERY_LEVEL
@pytest.mark.parametrize("type_", WEIGHTED, ids=lambda type_: type_.name)
@pytest.mark.parametrize("importance", IMPORTANCES)
def test_bytes_equal_the_reference_with_an_importance_matrix(importance, type_, level):
    for values in DISTRIBUTIONS.values():
        assert_equal(type_, values, level, IMPORTANCES[importance])


@EVERY_LEVEL
@pytest.mark.parametrize("type_", WEIGHTED, ids=lambda type_: type_.name)
@pytest.mark.parametrize("width", [256, 768, 5120])
def test_an_importance_matrix_is_applied_row_by_row(width, type_, level):
    random = np.random.default_rng(width)
    values = random.standard_normal((3, width), dtype=np.float32) * np.float32([[1], [100], [1e-3]])
    assert_equal(type_, values, level, random.random(width, dtype=np.float32))


@EVERY_LEVEL
@EVERY_TYPE
@settings(max_examples=60, deadline=None)
@given(values=arrays(np.float32, (3, 256), elements=st.floats(-1e9, 1e9, width=32), fill=st.floats(-2, 2, width=32)))
def test_bytes_equal_the_reference_on_whatever_hypothesis_finds(values, type_, level):
    assert_equal(type_, values, level)


@EVERY_LEVEL
@EVERY_TYPE
@pytest.mark.parametrize("n_rows", [1, 2, 3, 5, 17])
def test_any_number_of_blocks_is_converted(n_rows, type_, level):
    assert_equal(type_, np.random.default_rng(n_rows).standard_normal((n_rows, 768), dtype=np.float32), level)


@EVERY_TYPE
def test_the_comparison_sees_a_single_ulp(type_):
    values = np.random.default_rng(1).standard_normal((64, 256), dtype=np.float32)
    moved = values.copy()
    moved[:, np.abs(values).argmax(axis=1)] *= np.float32(1.001)
    assert (theirs(type_, values) != ours(type_, moved, kernels.LEVEL)[0]).any()


def halves():
    return np.arange(1 << 16, dtype=np.uint16).reshape(64, -1)


@EVERY_LEVEL
def test_every_finite_half_is_widened_exactly(level):
    bits = halves()[:, :].copy()
    values = bits.view(np.float16)
    bits[~np.isfinite(values)] = 0
    out, outcome = ours(Type.F32, bits.view(np.float16), level, Type.F16)
    assert outcome is Outcome.DONE
    assert (out.view(np.uint32) == bits.view(np.float16).astype(np.float32).view(np.uint32)).all()


@EVERY_LEVEL
def test_every_finite_bfloat16_is_widened_exactly(level):
    bits = halves().copy()
    bits[(bits & 0x7F80) == 0x7F80] = 0
    out, outcome = ours(Type.F32, bits, level, Type.BF16)
    assert outcome is Outcome.DONE
    assert (out.view(np.uint32) == bits.astype(np.uint32) << 16).all()


def around_every_half():
    """Each half, the middle to the next one, and their neighbours in float32."""
    bits = np.arange(0x7BFF, dtype=np.uint16)
    low, high = (part.view(np.float16).astype(np.float32) for part in (bits, bits + np.uint16(1)))
    points = np.concatenate([low, (low + high) / 2])
    near = np.concatenate([points, np.nextafter(points, np.float32(np.inf)), np.nextafter(points, -np.float32(np.inf))])
    return np.concatenate([near, -near]).reshape(1, -1)


@EVERY_LEVEL
def test_halves_are_rounded_as_ieee_says(level):
    values = around_every_half()
    out, outcome = ours(Type.F16, values, level)
    assert outcome is Outcome.DONE
    assert (out.view(np.uint16) == values.astype(np.float16).view(np.uint16)).all()


@EVERY_LEVEL
def test_bfloat16_is_rounded_to_even(level):
    upper = np.arange(0x7F7F, dtype=np.uint32)[:, None] << 16
    bits = (upper | np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)).reshape(1, -1)
    out, outcome = ours(Type.BF16, bits.view(np.float32), level)
    assert outcome is Outcome.DONE
    expected = np.array([_to_bfloat16(int(value)) for value in bits.ravel()], np.uint16)
    assert (out.view(np.uint16).ravel() == expected).all()


def _to_bfloat16(bits):
    below, lower = bits >> 16, bits & 0xFFFF
    return below + (lower > 0x8000 or (lower == 0x8000 and below & 1))


@EVERY_LEVEL
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 4095, 4096, 9999])
def test_a_value_that_is_not_finite_is_noticed(place, bad, level):
    values = np.ones((1, 10240), np.float32)
    values[0, place] = bad
    assert ours(Type.Q8_0, values, level)[1] is Outcome.NOT_FINITE


@EVERY_LEVEL
@pytest.mark.parametrize(
    "type_", [Type.F16, *(type_ for type_ in BLOCKS if type_ not in WITHOUT_HALVES)], ids=lambda type_: type_.name
)
def test_a_scale_that_overflows_is_noticed(type_, level):
    values = np.zeros((1, 10240), np.float32)
    values[0, -7] = -3e9
    assert ours(type_, values, level)[1] is Outcome.OVERFLOW


def test_weights_that_are_not_a_row_are_refused():
    values, out = np.zeros((2, 512), np.float32), np.zeros((2, 288), np.uint8)
    for wrong in (0, 100, 768):
        with pytest.raises(ValueError, match="weights are not a row"):
            kernels.quantize(Type.F32, values, Type.Q4_K, out, np.ones(wrong, np.float32))


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="do not make"):
        kernels.quantize(Type.F32, np.zeros((1, 256), np.float32), Type.Q4_K, np.zeros((1, 143), np.uint8))
    with pytest.raises(ValueError, match="no kernel for ggml type 9"):
        kernels.quantize(Type.F32, np.zeros((1, 256), np.float32), Type.Q8_1, np.zeros((1, 320), np.uint8))


def test_a_level_can_be_forced_and_an_impossible_one_is_refused():
    command = [sys.executable, "-c", "from ollamaq.quantize import kernels; print(kernels.LEVEL)"]
    forced = subprocess.run(command, env=os.environ | {"OLLAMAQ_CPU": "v1"}, capture_output=True, text=True, check=True)
    assert forced.stdout == "v1\n"
    with pytest.raises(UsageError, match="OLLAMAQ_CPU=v9"):
        kernels.load("v9")
