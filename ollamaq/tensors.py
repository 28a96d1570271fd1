"""A named, lazy tensor: what a checkpoint holds, a conversion renames, a quantizer consumes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

Rows = Callable[[int, int], NDArray[Any]]


@dataclass(frozen=True)
class Tensor:
    """A tensor whose rows are read when asked for.

    ``shape`` is in numpy's order (the last axis is the row). ``rows(start, stop)`` gives rows ``[start, stop)`` of the
    tensor seen as a matrix ``(n_rows, row)``, in the stored type: float32, float16, uint16 (the bits of a bfloat16), or
    uint8 of shape ``(stop - start, bytes a row)`` for block types. A 0-d or 1-d tensor is one row.
    """

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    rows: Rows

    @property
    def row(self) -> int:
        """Values in a row."""
        return self.shape[-1] if self.shape else 1

    @property
    def n_rows(self) -> int:
        return math.prod(self.shape[:-1])

    @property
    def n_values(self) -> int:
        return math.prod(self.shape)


def to_float32(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Widen stored rows (float32, float16, or bfloat16 as uint16) to float32, exactly."""
    if rows.dtype == np.uint16:
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return rows.astype(np.float32, copy=False)


def from_float32(values: NDArray[np.float32], type_: GGMLQuantizationType) -> NDArray[Any]:
    """Round float32 to rows as they are stored in F32, F16 or BF16 (to nearest, ties to even)."""
    return CASTS[type_](values)


def _to_f16(values: NDArray[np.float32]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):  # infinite then, which the quantizer reports with its place
        return values.astype(np.float16)


def to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of bfloat16, ties to even, as ggml rounds."""
    bits = values.view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 64, rounded).astype(np.uint16)


CASTS: dict[GGMLQuantizationType, Callable[[NDArray[np.float32]], NDArray[Any]]] = {
    GGMLQuantizationType.F32: lambda values: values,
    GGMLQuantizationType.F16: _to_f16,
    GGMLQuantizationType.BF16: to_bf16,
}
