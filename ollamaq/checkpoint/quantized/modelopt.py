"""NVIDIA ModelOpt: 8-bit floats, and 4-bit floats (NVFP4) whose blocks have 8-bit scales under one of the tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.checkpoint.quantized.float8 import scaled
from ollamaq.checkpoint.quantized.parts import Damaged, Settings, Tensors, floats, lazily, matched
from ollamaq.tensors import Tensor, to_float32

UNUSED = (".input_scale", ".k_scale", ".v_scale", ".q_scale")
BLOCK = 16
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""What 4 bits stand for."""


def restored(tensors: Tensors, settings: Settings) -> dict[str, Tensor]:
    out = {name: tensor for name, tensor in tensors.items() if not name.endswith(UNUSED)}
    for name in tensors:
        base = name.removesuffix("_scale")
        if not name.endswith(".weight_scale"):
            continue
        scale, overall = out.pop(name), out.pop(f"{base}_scale_2", None)
        if base not in tensors:
            continue
        if overall is None:
            out[base] = scaled(tensors[base], scale)
        else:
            out[base] = four_bit_floats(base, tensors[base], scale, overall)
    return out


def described(settings: Settings) -> str:
    return f"weights were {settings.get('quant_algo', '8-bit or 4-bit floats')} of ModelOpt"


def four_bit_floats(name: str, codes: Tensor, scale: Tensor, overall: Tensor, *, divides: bool = False) -> Tensor:
    """Two values a byte, the first one low; a scale for 16 of them, times (or over) that of the whole tensor."""
    if codes.type is not Type.I8 or overall.n_values != 1 or len(codes.shape) != 2:
        raise Damaged(f"{name} holds no 4-bit floats under one scale")
    n_rows, n_columns = codes.shape[0], codes.shape[1] * 2
    matched(name, scale, n_rows, n_columns // BLOCK)
    factor = floats(overall).reshape(-1)[0]

    def rows(start: int, stop: int) -> NDArray[Any]:
        packed = codes.rows(start, stop).view(np.uint8)
        values = E2M1[np.stack((packed & 15, packed >> 4), axis=2).reshape(stop - start, -1)]
        each = to_float32(scale.rows(start, stop))
        factors: NDArray[np.float32] = np.repeat(each / factor if divides else each * factor, BLOCK, axis=1)
        return values * factors

    return lazily(name, Type.F32, (n_rows, n_columns), rows)
