"""torchao: 8-bit integers with scales (and zeros) for rows or groups, as its safetensors have them since 0.15.

Format: ``torchao/prototype/safetensors``; arithmetic: its ``dequantize_affine``. Codes of fewer bits are bytes here too
(``IntxUnpackedToInt8Tensor``); those that are packed for a processor's kernels are refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.checkpoint.quantized.parts import Damaged, Settings, Tensors, floats, lazily, once, whole
from ollamaq.tensors import Tensor, from_float32

PART = "._weight_"
KNOWN = ("qdata", "scale", "zero_point")


def restored(tensors: Tensors, settings: Settings) -> dict[str, Tensor]:
    out = {name: tensor for name, tensor in tensors.items() if PART not in name}
    parts = [(name, *name.split(PART, 1)) for name in tensors if PART in name]
    if odd := next((name for name, _, part in parts if part not in KNOWN), None):
        raise Damaged(f"{odd} belongs to a layout that cannot be read: quantize to int8, or to int4 unpacked")
    for module in dict.fromkeys(module for _, module, _ in parts):
        codes, scale, zero = (tensors.get(f"{module}{PART}{part}") for part in KNOWN)
        out[f"{module}.weight"] = _weight(f"{module}.weight", codes, scale, zero)
    return out


def described(settings: Settings) -> str:
    return "weights were integers of torchao, with a scale for each row or group"


def _weight(name: str, codes: Tensor | None, scale: Tensor | None, zero: Tensor | None) -> Tensor:
    """Codes less zeros, times scales, rounded to the scales' type, which is the model's."""
    if codes is None or scale is None:
        raise Damaged(f"{name} lacks its codes or scales")
    if codes.type is not Type.I8 or len(codes.shape) != 2:
        raise Damaged(f"{codes.name} holds no 8-bit rows")
    n_rows, n_columns = codes.shape
    n_groups = scale.n_values // n_rows
    if scale.n_values != n_groups * n_rows or not n_groups or n_columns % n_groups:
        raise Damaged(f"{scale.name} has the shape {list(scale.shape)}, and the weight {list(codes.shape)}")
    if zero is not None and zero.shape != scale.shape:
        raise Damaged(f"{zero.name} has the shape {list(zero.shape)}, and {scale.name} {list(scale.shape)}")
    each = n_columns // n_groups

    def read() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        origin = np.zeros((n_rows, n_groups)) if zero is None else whole(zero).reshape(n_rows, n_groups)
        return floats(scale).reshape(n_rows, n_groups), origin.astype(np.float32)

    stored = once(read)

    def rows(start: int, stop: int) -> NDArray[Any]:
        factors, origin = (np.repeat(part[start:stop], each, axis=1) for part in stored())
        found = codes.rows(start, stop).view(np.int8).astype(np.float32) - origin
        return from_float32(found * factors, scale.type)

    floats(scale)  # they are floats, and few enough
    return lazily(name, scale.type, codes.shape, rows)
