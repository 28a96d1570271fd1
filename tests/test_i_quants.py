"""The i-quants, and what the wheel lacks, give llama.cpp's bytes.

IQ4_XS, IQ3_S, IQ3_XXS, IQ2_XXS, IQ2_XS and IQ2_S are compared with ``ggml_quantize_chunk`` of the libggml-python wheel,
whose code of them is that of llama.cpp b11434. IQ1_S, whose tables take that library ten seconds, and IQ1_M, which has
changed since the wheel, are compared with hashes of what b11434 itself writes (``data/hashes.json``), as is Q2_0, which
the wheel does not have.
"""

import ctypes
import hashlib
import json
from functools import cache
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ollamaq.gguf.types import Q2_0
from ollamaq.quantize import kernels
from ollamaq.quantize.kernels import Outcome

LIVE = [Type[name] for name in ("IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S")]
HASHED = [Type.IQ1_S, Type.IQ1_M, Q2_0]
NEED_WEIGHTS = {Type.IQ2_XXS, Type.IQ2_XS, Type.IQ1_S}
HASHES = json.loads((Path(__file__).parent / "data" / "hashes.json").read_text())

WIDTH = 768  # three super-blocks: never a multiple of those that a kernel takes at once
EVERY_LEVEL = pytest.mark.parametrize("level", kernels.LEVELS)


def every_type(types):
    return pytest.mark.parametrize("type_", types, ids=lambda type_: type_.name)


def uniform(seed, *shape):
    """Doubles in [0, 1), the same whatever the version of numpy."""
    count = int(np.prod(shape))
    return (np.random.PCG64(seed).random_raw(count) >> np.uint64(11)).reshape(shape) * 2.0**-53


def power(exponents):
    """2 to the exponents, rounded down."""
    return np.ldexp(1.0, np.floor(exponents).astype(int))


def distributions():
    """Rows of everything that weights are, and of what they should not be, by exact arithmetic only."""
    shape = (6, WIDTH)

    def u(seed, *dimensions):
        return uniform(seed, *(dimensions or shape))

    def normal(seed):
        return u(seed) + u(seed + 1) + u(seed + 2) + u(seed + 3) - 2

    def integers(seed, low, high):
        return np.floor(u(seed) * (high - low)) + low

    def blocks(seed, width):
        return np.repeat(u(seed, shape[0], WIDTH // width) - 0.5, width, axis=1)

    yield "normal", normal(0) * 0.03
    for exponent in (-140, -66, -46, -26, 13, 20):
        yield f"normal-2^{exponent}", normal(10) * 2.0**exponent
    yield "uniform", u(20) * 2 - 1
    yield "positive", u(30)
    yield "negative", -u(40)
    yield "heavy-tailed", (u(50) - 0.5) / (u(51) + 2.0**-12)
    yield "zeros", np.zeros(shape)
    yield "negative-zeros", np.where(u(60) < 0.5, -0.0, 0.0)
    yield "zeros-and-positive", np.where(u(70) < 0.5, -0.0, u(71))
    yield "zero-blocks", normal(80) * np.repeat(u(84, shape[0], WIDTH // 16) < 0.5, 16, axis=1)
    yield "constant", blocks(90, WIDTH)
    yield "constant-32", blocks(91, 32)
    yield "constant-16", blocks(92, 16)
    yield "constant-8", blocks(93, 8)
    yield "subnormal", integers(100, -9, 9) * 2.0**-149
    yield "offset", normal(110) + 1000
    yield "one-ulp", integers(120, -1, 2) * 2.0**-24 - 1
    yield "sparse", normal(130) * (u(134) < 0.05)
    yield "outliers", normal(140) * np.where(u(144) < 0.02, 300, 1)
    yield "two-valued", np.where(u(150) < 0.5, -1, 1)
    yield "same-magnitude", np.where(u(160) < 0.5, -1, 1) * blocks(161, 32)
    yield "grid-of-3-levels", integers(170, -5, 6)
    yield "grid-of-8-levels", integers(180, -15, 16) * 0.0625
    yield "halfway", integers(190, -8, 9) * 2 * blocks(191, 32)
    yield "mixed-scales", normal(200) * np.repeat(power(u(204, shape[0], WIDTH // 16) * 30 - 20), 16, axis=1)
    yield "mixed-magnitudes", normal(210) * power(u(214) * 16 - 14)
    yield "nearly-constant", np.where(u(220) < 0.02, normal(221) * 2.0**-20, 0) - 3.5


def importances():
    """What an importance matrix may say of a row."""
    yield "plain", uniform(300, WIDTH) + 0.05
    yield "uneven", uniform(301, WIDTH) * power(uniform(302, WIDTH) * 40 - 30)
    yield "zeros", np.where(uniform(303, WIDTH) < 0.5, 0, uniform(304, WIDTH)) * (np.arange(WIDTH) // 32 % 3 > 0)


DISTRIBUTIONS = {name: np.ascontiguousarray(values, np.float32) for name, values in distributions()}
IMPORTANCES = {"none": None} | {name: values.astype(np.float32) for name, values in importances()}


@cache
def reference(type_):
    path = next(file.locate() for file in files("libggml-python") if file.name == "libggml-base.so")
    library = ctypes.CDLL(str(path))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]
    library.ggml_quantize_init(type_)
    return library


def theirs(type_, values, weights):
    out = np.zeros((len(values), kernels.row_bytes(type_, values.shape[1])), np.uint8)
    place = None if weights is None else weights.ctypes.data
    written = reference(type_).ggml_quantize_chunk(type_, values.ctypes.data, out.ctypes.data, 0, *values.shape, place)
    assert written == out.size
    return out.reshape(-1, GGML_QUANT_SIZES[type_][1])


@cache
def theirs_of(type_, distribution, importance):
    return theirs(type_, DISTRIBUTIONS[distribution], IMPORTANCES[importance])


def ours(type_, values, weights, level):
    out = np.full((len(values), kernels.row_bytes(type_, values.shape[1])), 0xAA, np.uint8)
    outcome = kernels.quantize(Type.F32, values, type_, out, weights, kernels=kernels.load(level))
    return out.reshape(-1, GGML_QUANT_SIZES[type_][1]), outcome


def assert_same(found, outcome, expected):
    """Blocks whose scale is not finite are refused, so their bytes do not matter."""
    good = (expected[:, :2].copy().view(np.uint16).ravel() & 0x7C00) != 0x7C00
    assert outcome is (Outcome.DONE if good.all() else Outcome.OVERFLOW)
    different = np.any(found != expected, axis=1) & good
    assert not different.any(), f"block {np.argmax(different)} of {len(different)} differs"


def importances_of(type_):
    return [name for name in IMPORTANCES if name != "none" or type_ not in NEED_WEIGHTS]


@EVERY_LEVEL
@every_type(LIVE)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_bytes_equal_the_reference(distribution, type_, level):
    for importance in importances_of(type_):
        found, outcome = ours(type_, DISTRIBUTIONS[distribution], IMPORTANCES[importance], level)
        assert_same(found, outcome, theirs_of(type_, distribution, importance))


@EVERY_LEVEL
@every_type(HASHED)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_bytes_have_the_hash_of_the_reference(distribution, type_, level):
    for importance in importances_of(type_):
        found, outcome = ours(type_, DISTRIBUTIONS[distribution], IMPORTANCES[importance], level)
        expected = HASHES[type_.name][f"{distribution}, {importance}"]
        if expected is None:
            assert outcome is Outcome.OVERFLOW
        else:
            assert outcome is Outcome.DONE
            assert hashlib.sha256(found).hexdigest() == expected


VALUES = arrays(np.float32, (1, WIDTH), elements=st.floats(-1e6, 1e6, width=32), fill=st.floats(-2, 2, width=32))
WEIGHTS = arrays(np.float32, WIDTH, elements=st.floats(0, 100, width=32), fill=st.floats(0, 2, width=32))


@EVERY_LEVEL
@every_type(LIVE)
@settings(max_examples=15, deadline=None)
@given(values=VALUES, weights=WEIGHTS)
def test_bytes_equal_the_reference_on_whatever_hypothesis_finds(values, weights, type_, level):
    for given_weights in (weights,) if type_ in NEED_WEIGHTS else (weights, None):
        found, outcome = ours(type_, values, given_weights, level)
        assert_same(found, outcome, theirs(type_, values, given_weights))


@every_type(HASHED)
@settings(max_examples=15, deadline=None)
@given(values=VALUES, weights=WEIGHTS)
def test_all_levels_agree_on_whatever_hypothesis_finds(values, weights, type_):
    found = {
        (bytes(blocks), outcome)
        for blocks, outcome in (ours(type_, values, weights, level) for level in kernels.LEVELS)
    }
    assert len(found) == 1


@EVERY_LEVEL
@every_type(LIVE)
def test_any_number_of_blocks_is_converted(type_, level):
    for n_blocks in (1, 2, 4, 5, 17):
        values = np.ascontiguousarray(uniform(n_blocks, 2, n_blocks * 256) - 0.5, np.float32)
        weights = uniform(400 + n_blocks, n_blocks * 256).astype(np.float32)
        assert_same(*ours(type_, values, weights, level), theirs(type_, values, weights))


@every_type(LIVE)
def test_the_comparison_sees_a_changed_value(type_):
    values = DISTRIBUTIONS["normal"]
    weights = IMPORTANCES["plain"]
    moved = values.copy()
    moved[:, ::256] *= np.float32(1.5)
    assert (ours(type_, moved, weights, kernels.LEVEL)[0] != theirs(type_, values, weights)).any()


@EVERY_LEVEL
@every_type(LIVE + HASHED)
def test_a_scale_that_overflows_is_noticed(type_, level):
    values = np.zeros((1, WIDTH), np.float32)
    values[0, 300] = -3e9
    assert ours(type_, values, np.ones(WIDTH, np.float32), level)[1] is Outcome.OVERFLOW


@every_type(sorted(NEED_WEIGHTS))
def test_types_that_need_weights_say_so(type_):
    with pytest.raises(ValueError, match=f"ggml type {type_:d} needs weights"):
        ours(type_, DISTRIBUTIONS["normal"], None, kernels.LEVEL)
