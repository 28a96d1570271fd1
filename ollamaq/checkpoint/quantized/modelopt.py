"""NVIDIA ModelOpt: 8-bit floats, and 4-bit floats (NVFP4) whose blocks have 8-bit scales under one of the tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.checkpoint.quantized.float8 import scaled
from ollamaq.checkpoint.quantized.parts import Damaged, Kept, Settings, Tensors, floats, lazily, matched
from ollamaq.checkpoint.safetensors import EIGHT_BITS
from ollamaq.tensors import Tensor, to_float32

UNUSED = (".input_scale", ".k_scale", ".v_scale", ".q_scale")
BLOCK, IN_GGUF = 16, 64
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""What 4 bits stand for."""
E4M3 = EIGHT_BITS["F8_E4M3"][:127]
"""What the scales stand for, by their code."""
MAX_SCALES = 1 << 20
"""Read together."""


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


def kept(tensors: Tensors, settings: Settings) -> dict[str, Kept]:
    """The weights of 4-bit floats as llama.cpp's converter keeps them, by name."""
    return {
        name.removesuffix("_scale"): Kept(
            in_blocks(name.removesuffix("_scale"), tensors[name.removesuffix("_scale")], tensors[name]),
            one_number(tensors[f"{name}_2"]),
            one_number(tensors.get(name.removesuffix("weight_scale") + "input_scale")),
        )
        for name in tensors
        if name.endswith(".weight_scale") and f"{name}_2" in tensors and fits_blocks(tensors[name])
    }


def one_number(tensor: Tensor | None, *, divides: bool = False) -> float:
    """What a whole tensor is multiplied by; 1 where nothing is."""
    if tensor is None:
        return 1.0
    if tensor.n_values != 1:
        raise Damaged(f"{tensor.name} has {tensor.n_values} values, where one is due")
    value = floats(tensor).reshape(-1)[0]
    return float(np.float32(1) / value if divides else value)


def fits_blocks(scale: Tensor) -> bool:
    """Whether GGUF's blocks hold weights with these scales: four of them to a block, and without a sign."""
    step = max(1, MAX_SCALES // scale.row)
    spans = ((at, min(at + step, scale.n_rows)) for at in range(0, scale.n_rows, step))
    return (
        len(scale.shape) == 2
        and scale.row * BLOCK % IN_GGUF == 0
        and all(bool((to_float32(scale.rows(*span)) >= 0).all()) for span in spans)
    )


def in_blocks(name: str, codes: Tensor, scale: Tensor) -> Tensor:
    """The same codes and scales in llama.cpp's order: four scales, then 32 bytes (``block_nvfp4``)."""
    n_rows, n_groups = codes.shape[0], codes.shape[1] * 2 // BLOCK
    matched(name, scale, n_rows, n_groups)

    def rows(start: int, stop: int) -> NDArray[Any]:
        pairs = codes.rows(start, stop).view(np.uint8).reshape(-1, n_groups, BLOCK // 2)
        unpacked = np.stack((pairs & 15, pairs >> 4), axis=-1).reshape(-1, n_groups, BLOCK)
        halves = unpacked[:, :, : BLOCK // 2] | unpacked[:, :, BLOCK // 2 :] << 4
        scales = E4M3.searchsorted(to_float32(scale.rows(start, stop))).astype(np.uint8)
        parts = (scales.reshape(-1, n_groups // 4, 4), halves.reshape(-1, n_groups // 4, IN_GGUF // 2))
        return np.concatenate(parts, axis=-1).reshape(stop - start, -1)

    return lazily(name, Type.NVFP4, (n_rows, n_groups * BLOCK), rows)


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
