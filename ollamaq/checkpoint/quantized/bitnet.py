"""BitNet: weights of -1, 0 and 1 in 2 bits, four rows in one, over a scale (llama.cpp's ``conversion/base.py``)."""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.checkpoint.quantized.parts import Damaged, Settings, Tensors, floats, lazily
from ollamaq.tensors import Tensor

SCALE = "_scale"


def restored(tensors: Tensors, settings: Settings) -> dict[str, Tensor]:
    out = dict(tensors)
    for name in tensors:
        if name.endswith(f".weight{SCALE}"):
            weight = name.removesuffix(SCALE)
            out[weight] = _weight(tensors[weight], out.pop(name))
    return out


def described(settings: Settings) -> str:
    return "weights were -1, 0 and 1, with a scale for each tensor"


def _weight(packed: Tensor, scale: Tensor) -> Tensor:
    if scale.n_values != 1 or len(packed.shape) != 2:
        raise Damaged(f"{scale.name} has the shape {list(scale.shape)}")
    factor, quarter = floats(scale).reshape(-1)[0], packed.shape[0]

    def rows(start: int, stop: int) -> NDArray[Any]:
        parts = []
        for at in range(start, stop):
            code = packed.rows(at % quarter, at % quarter + 1).view(np.uint8) >> np.uint8(2 * (at // quarter)) & 3
            parts.append(code.astype(np.float32) - 1)
        values: NDArray[np.float32] = np.concatenate(parts) / factor
        return values

    return lazily(packed.name, Type.F32, (4 * quarter, packed.shape[1]), rows)
