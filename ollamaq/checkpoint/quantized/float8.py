"""Weights of 8-bit floats, with a scale for the tensor, each row or each block (DeepSeek's and Mistral's layouts)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.checkpoint.quantized.parts import Damaged, Settings, Tensors, floats, lazily, once
from ollamaq.tensors import Tensor, to_float32

SCALES = {"_scale_inv": "", ".qscale_weight": ".weight"}
"""Ends of a scale's name, and what stands there in that of its weight."""
UNUSED = (".activation_scale", "_activation_scale", ".qscale_act", ".input_scale")


def restored(tensors: Tensors, settings: Settings) -> dict[str, Tensor]:
    block = settings.get("weight_block_size")
    out = dict(tensors)
    for name in tensors:
        if name.endswith(UNUSED):
            del out[name]
        for end, instead in SCALES.items():
            if name.endswith(end):
                weight = name.removesuffix(end) + instead
                out[weight] = scaled(tensors[weight], out.pop(name), block)
    return out


def described(settings: Settings) -> str:
    block = settings.get("weight_block_size")
    each = f"each block of {' x '.join(map(str, block))}" if block else "each tensor or row"
    return f"weights were 8-bit floats, with a scale for {each}"


def scaled(weight: Tensor, scale: Tensor, block: Any = None) -> Tensor:
    """A weight times its scales, in float32: one for each block of its last axes, or broadcast from the left."""
    if block is not None:
        return _blocks(weight, scale, block)

    def read() -> NDArray[np.float32]:
        factors = floats(scale)
        factors = factors.reshape(factors.shape + (1,) * (len(weight.shape) - factors.ndim))
        return np.broadcast_to(factors, (*weight.shape[:-1], 1)).reshape(-1, 1)

    if scale.n_values != 1 and scale.n_values != math.prod(scale.shape[: len(weight.shape) - 1]):
        raise Damaged(f"{scale.name} has the shape {list(scale.shape)}, and the weight {list(weight.shape)}")
    factors = once(read)
    return lazily(
        weight.name,
        Type.F32,
        weight.shape,
        lambda start, stop: to_float32(weight.rows(start, stop)) * factors()[start:stop],
    )


def _blocks(weight: Tensor, scale: Tensor, block: Any) -> Tensor:
    match block:
        case [int(high), int(wide)] if high > 0 and wide > 0:
            pass
        case _:
            raise Damaged(f"blocks of {str(block)[:40]}")
    *outer, n_rows, n_columns = weight.shape
    if scale.shape != (*outer, -(-n_rows // high), -(-n_columns // wide)):
        raise Damaged(f"{scale.name} has the shape {list(scale.shape)}, and the weight {list(weight.shape)}")
    n_high = scale.shape[-2]

    def rows(start: int, stop: int) -> NDArray[Any]:
        wanted = np.arange(start, stop)
        which = wanted // n_rows * n_high + wanted % n_rows // high
        first, last = int(which[0]), int(which[-1]) + 1
        factors = to_float32(scale.rows(first, last))[which - first]
        values: NDArray[np.float32] = (
            to_float32(weight.rows(start, stop)) * np.repeat(factors, wide, axis=1)[:, :n_columns]
        )
        return values

    return lazily(weight.name, Type.F32, weight.shape, rows)
