"""Floats that lie on the lattice of a block type: the blocks that give exactly these numbers, where there are any.

A quantizer looks for blocks that are near; weights which were quantized before, by GPTQ, MLX or in training, are often
`exactly` a scale (and an offset) of 16 bits times small integers. The scale is found from the numbers alone: it is
among the largest one divided by each integer or, with an offset, the smallest step between two numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.quantize.dequantize import dequantize
from ollamaq.tensors import Tensor, to_float32

Floats = NDArray[np.float32]
BLOCK = 32
CHUNK = 1 << 19
"""Values looked at together."""
SMALLEST_STEPS = 3
"""How many levels may lie between any two neighbouring numbers of a block with an offset."""


@dataclass(frozen=True)
class Lattice:
    """Codes ``low`` to ``high``: times a scale, plus an offset where the lattice has one (and then ``low`` is 0)."""

    low: int
    high: int
    offset: bool = False


LATTICES = {
    Type.Q4_0: Lattice(-8, 7),
    Type.Q4_1: Lattice(0, 15, offset=True),
    Type.Q5_0: Lattice(-16, 15),
    Type.Q5_1: Lattice(0, 31, offset=True),
    Type.Q8_0: Lattice(-128, 127),
}
"""From the smallest blocks to the largest (layouts: ``ggml/src/ggml-common.h``)."""


def lattice_type(tensor: Tensor) -> Type | None:
    """The smallest type on whose lattice all numbers of a tensor of floats lie. Reads it, up to the first that do not.

    A zero's sign does not count.
    """
    if tensor.row % BLOCK:
        return None
    return next((type_ for type_ in LATTICES if _lies_on(tensor, type_)), None)


def _lies_on(tensor: Tensor, type_: Type) -> bool:
    step = max(1, CHUNK // tensor.row)
    starts = [0, *range(1, tensor.n_rows, step)]  # the first row alone tells most that do not
    spans = zip(starts, [*starts[1:], tensor.n_rows], strict=True)
    return all(exact_blocks(to_float32(tensor.rows(*span)), type_) is not None for span in spans)


def exact_blocks(values: Floats, type_: Type) -> NDArray[np.uint8] | None:
    """Blocks ``(n_rows, bytes a row)`` that give back rows of numbers exactly, or None where there are none."""
    lattice = LATTICES[type_]
    blocks = values.reshape(-1, BLOCK)
    with np.errstate(all="ignore"):
        found = (_with_offset if lattice.offset else _symmetric)(blocks, lattice)
    if found is None:
        return None
    rows = _packed(type_, *found).reshape(len(values), -1)
    return rows if np.array_equal(dequantize(type_, rows), values) else None


Found = tuple[Floats, Floats, NDArray[np.int32]]
"""Scales and offsets ``(n_blocks,)``, and codes ``(n_blocks, 32)``."""


def _symmetric(blocks: Floats, lattice: Lattice) -> Found | None:
    """Scales tried from the finest on, with both signs where the codes reach further on one side."""
    largest = np.abs(blocks).max(axis=1)
    divisors = np.arange(-lattice.low, 0, -1).astype(np.float32)
    candidates = _half(largest[:, None] / divisors)
    possible = (candidates * divisors == largest[:, None]) & np.isfinite(candidates)
    scales, codes = np.zeros(len(blocks), np.float32), np.zeros(blocks.shape, np.int32)
    left = largest > 0
    for i in range(len(divisors)):
        for sign in (1, -1):
            tried = np.flatnonzero(left & possible[:, i])
            if not len(tried):
                break
            scale = np.float32(sign) * candidates[tried, i]
            code = np.rint(blocks[tried] / scale[:, None])
            fits = (code >= lattice.low) & (code <= lattice.high) & (code * scale[:, None] == blocks[tried])
            fitting = tried[fits.all(axis=1)]
            scales[fitting] = scale[fits.all(axis=1)]
            codes[fitting] = code[fits.all(axis=1)].astype(np.int32)
            left[fitting] = False
    return None if left.any() else (scales, np.zeros_like(scales), codes)


def _with_offset(blocks: Floats, lattice: Lattice) -> Found | None:
    scales, offsets = np.zeros((2, len(blocks)), np.float32)
    codes, left = np.zeros(blocks.shape, np.int32), np.ones(len(blocks), bool)
    for sign in (1, -1):
        around = np.flatnonzero(left)
        values = np.float32(sign) * blocks[around]
        lowest, span = values.min(axis=1), values.max(axis=1) - values.min(axis=1)
        gaps = np.diff(np.sort(values, axis=1), axis=1)
        smallest = np.where(gaps > 0, gaps, np.inf).min(axis=1)
        for between in range(1, SMALLEST_STEPS + 1):
            levels = np.where(span > 0, np.rint(span / smallest * between), 0)
            scale = np.where(levels > 0, _half(span / levels), 0)
            for first in range(lattice.high + 1):
                tried = np.flatnonzero(left[around] & (levels <= lattice.high - first))
                if not len(tried):
                    break
                each = scale[tried]
                offset = _half(lowest[tried] - np.float32(first) * each)
                code = np.rint((values[tried] - lowest[tried, None]) / np.where(each, each, 1)[:, None]) + first
                fits = (code >= 0) & (code <= lattice.high)
                fits &= code * each[:, None] + offset[:, None] == values[tried]
                whole = fits.all(axis=1)
                fitting = around[tried[whole]]
                scales[fitting], offsets[fitting] = sign * each[whole], sign * offset[whole]
                codes[fitting] = code[whole].astype(np.int32)
                left[fitting] = False
    return None if left.any() else (scales, offsets, codes)


def _half(values: Floats) -> Floats:
    """The nearest that 16 bits hold."""
    return values.astype(np.float16).astype(np.float32)


def _packed(type_: Type, scales: Floats, offsets: Floats, codes: NDArray[np.int32]) -> NDArray[np.uint8]:
    parts = [scales.astype(np.float16)[:, None].view(np.uint8)]
    if type_ is Type.Q8_0:
        return np.concatenate((*parts, codes.astype(np.int8).view(np.uint8)), axis=1)
    unsigned = codes - LATTICES[type_].low
    if LATTICES[type_].offset:
        parts.append(offsets.astype(np.float16)[:, None].view(np.uint8))
    if LATTICES[type_].high - LATTICES[type_].low > 15:
        parts.append(np.packbits(unsigned >> 4 & 1, axis=1, bitorder="little"))
    low = (unsigned & 15).astype(np.uint8)
    return np.concatenate((*parts, low[:, : BLOCK // 2] | low[:, BLOCK // 2 :] << 4), axis=1)
