"""Stored rows back to float32: for inspection, for measuring, and for quantizing once more.

Floats widen exactly; blocks are unpacked by gguf-py, in the arithmetic of llama.cpp's ``ggml/src/ggml-quants.c``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, quants
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.errors import ModelRefused
from ollamaq.gguf.types import Q2_0
from ollamaq.tensors import Tensor, to_float32

FLOATS = frozenset({Type.F32, Type.F16, Type.BF16})
LEGACY = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
K_QUANTS = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
I_QUANTS = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS")
OTHERS = ("TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "Q1_0")
UNPACKED = FLOATS | {Type[name] for name in LEGACY + K_QUANTS + I_QUANTS + OTHERS} | {Q2_0}
"""Types that can be read back."""


def dequantize(type_: Type, rows: NDArray[Any]) -> NDArray[np.float32]:
    """Rows of values from rows as a `Tensor` gives them: floats, or blocks as uint8 ``(n_rows, bytes a row)``.

    Blocks whose scales are not finite give values that are not.

    Raises:
        ModelRefused: the type cannot be read back.
    """
    if type_ not in UNPACKED:
        raise ModelRefused(
            f"tensors of type {type_.name} cannot be read back", next_step="start from an F16, BF16 or F32 file"
        )
    if type_ in FLOATS:
        return to_float32(rows)
    if not len(rows):
        block, size = GGML_QUANT_SIZES[type_]
        return np.empty((0, rows.shape[1] // size * block), np.float32)
    if type_ in OWN:
        return OWN[type_](rows)
    with np.errstate(all="ignore"):
        values: NDArray[np.float32] = quants.dequantize(rows, type_)
    return values


def as_floats(tensor: Tensor) -> Tensor:
    """The same tensor with rows of float32, unpacked when they are asked for.

    Raises:
        ModelRefused: its type cannot be read back.
    """
    if tensor.type not in UNPACKED:
        raise ModelRefused(
            f"tensor {tensor.name!r} is of type {tensor.type.name}, which cannot be read back",
            next_step="start from an F16, BF16 or F32 file",
        )
    return replace(tensor, type=Type.F32, rows=lambda start, stop: dequantize(tensor.type, tensor.rows(start, stop)))


def _dequantize_q1_0(rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A scale and 128 signs in a block."""
    blocks = rows.reshape(-1, GGML_QUANT_SIZES[Type.Q1_0][1])
    scales = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    positive = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little")
    return np.where(positive, scales, -scales).reshape(len(rows), -1)


def _dequantize_q2_0(rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A scale and 64 codes of 2 bits, the first one lowest, in a block."""
    blocks = rows.reshape(-1, GGML_QUANT_SIZES[Q2_0][1])
    scales = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    codes = (blocks[:, 2:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    with np.errstate(invalid="ignore"):
        values = (codes.reshape(len(blocks), -1).astype(np.float32) - 1) * scales
    return values.reshape(len(rows), -1)


OWN = {Type.Q1_0: _dequantize_q1_0, Q2_0: _dequantize_q2_0}
"""What gguf-py cannot unpack yet."""
