"""The compiled kernels of the best instruction set that this processor has; ``OLLAMAQ_CPU=v1|v3|v4`` forces one.

All of them give the same bytes: those of llama.cpp's reference (``ggml/src/ggml-quants.c``).
"""

from __future__ import annotations

import importlib
import os
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.errors import UsageError

LEVELS: tuple[str, ...] = importlib.import_module("ollamaq._kernels._cpu").levels()
"""Levels that run here, the best one last."""


class Outcome(IntEnum):
    """What came of quantizing."""

    DONE = 0
    NOT_FINITE = 1
    """A value that was read is infinite or not a number."""
    OVERFLOW = 2
    """A value or a block's scale does not fit the type."""


class Kernels(Protocol):
    """A compiled module."""

    def quantize(
        self,
        source: int,
        stored: memoryview,
        target: int,
        out: memoryview,
        weights: NDArray[np.float32] | None = None,
        /,
    ) -> int: ...


def load(level: str) -> Kernels:
    """The kernels of one level.

    Raises:
        UsageError: the level does not run here.
    """
    if level not in LEVELS:
        raise UsageError(
            f"OLLAMAQ_CPU={level} cannot run here", next_step=f"use one of {', '.join(LEVELS)}, or unset it"
        )
    module: Kernels = importlib.import_module(f"ollamaq._kernels._{level}")
    return module


LEVEL = os.environ.get("OLLAMAQ_CPU") or LEVELS[-1]


def row_bytes(type_: Type, n_values: int) -> int:
    """Bytes of a row of ``n_values``, which the type's block must divide."""
    block, size = GGML_QUANT_SIZES[type_]
    return n_values // block * size


def quantize(
    source: Type,
    stored: NDArray[Any],
    target: Type,
    out: NDArray[np.uint8],
    weights: NDArray[np.float32] | None = None,
    *,
    kernels: Kernels | None = None,
) -> Outcome:
    """Convert rows to blocks, without the GIL.

    Args:
        source: what is stored: F32, F16 or BF16.
        stored: rows of float32, float16 or bfloat16 bits, C-contiguous.
        target: the type to write.
        out: takes the blocks: ``(n_rows, row_bytes(target, values in a row))``, C-contiguous.
        weights: how much each value of a row matters (an importance matrix), if that is known.
        kernels: those to use instead of the best.

    Raises:
        ValueError: the sizes do not fit, or there is no kernel for the type.
    """
    flat = np.ascontiguousarray(stored).reshape(-1).view(np.uint8)
    return Outcome((kernels or load(LEVEL)).quantize(source, flat.data, target, out.reshape(-1).data, weights))
