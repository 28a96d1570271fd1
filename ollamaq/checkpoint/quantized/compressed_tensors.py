"""compressed-tensors (LLM Compressor, vLLM): integers and 8-bit floats, packed or not, in one group of settings.

Arithmetic: llama.cpp's ``conversion/base.py``; strategies that it does not read follow the library's own
``dequantize``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.checkpoint.quantized import modelopt
from ollamaq.checkpoint.quantized.float8 import scaled
from ollamaq.checkpoint.quantized.parts import (
    WORD,
    Damaged,
    Kept,
    Settings,
    Tensors,
    floats,
    lazily,
    matched,
    once,
    whole,
)
from ollamaq.tensors import Tensor, to_float32

UNUSED = (".input_scale", ".input_zero_point", ".input_global_scale", ".k_scale", ".v_scale", ".output_scale")
PLAIN = ("float-quantized", "int-quantized", "naive-quantized")
PACKED, FP4 = "pack-quantized", "nvfp4-pack-quantized"


def restored(tensors: Tensors, settings: Settings) -> dict[str, Tensor]:
    format_, weights = _settings(settings)
    out = {name: tensor for name, tensor in tensors.items() if not name.endswith(UNUSED)}
    for name in tensors:
        if format_ == FP4 and name.endswith(".weight_packed"):
            base = name.removesuffix("_packed")
            parts = (out.pop(base + end) for end in ("_packed", "_scale", "_global_scale"))
            out[base] = modelopt.four_bit_floats(base, *parts, divides=True)
        elif format_ == PACKED and name.endswith(".weight_packed"):
            base = name.removesuffix("_packed")
            ends = ("_packed", "_scale", "_shape", "_zero_point", "_g_idx")
            out[base] = _packed(base, weights, *(out.pop(base + end, None) for end in ends))
        elif format_ in PLAIN and name.endswith(".weight_scale"):
            base = name.removesuffix("_scale")
            out[base] = _plain(tensors[base], out.pop(name), out.pop(f"{base}_zero_point", None), weights)
    return out


def kept(tensors: Tensors, settings: Settings) -> dict[str, Kept]:
    """The weights of 4-bit floats as llama.cpp's converter keeps them, by name."""
    if _settings(settings)[0] != FP4:
        return {}
    found = {}
    for name in tensors:
        base = name.removesuffix("_packed")
        if name.endswith(".weight_packed") and modelopt.fits_blocks(tensors[f"{base}_scale"]):
            found[base] = Kept(
                modelopt.in_blocks(base, tensors[name], tensors[f"{base}_scale"]),
                modelopt.one_number(tensors[f"{base}_global_scale"], divides=True),
                modelopt.one_number(tensors.get(f"{base.removesuffix('weight')}input_global_scale"), divides=True),
            )
    return found


def described(settings: Settings) -> str:
    format_, weights = _settings(settings)
    kind = "floats" if weights.get("type") == "float" else "integers"
    group = weights.get("group_size")
    each = f"groups of {group}" if group else f"each {weights.get('strategy', 'tensor')}"
    return f"weights were {weights.get('num_bits')}-bit {kind} ({format_}), with a scale for {each}"


def _settings(settings: Settings) -> tuple[str, dict[str, Any]]:
    """The format, and what it says of weights; groups that differ cannot be told apart by tensor names here."""
    groups = [group for group in settings["config_groups"].values() if group.get("weights")]
    if not groups or any(group["weights"] != groups[0]["weights"] for group in groups):
        raise Damaged(f"{len(groups)} groups of settings that differ cannot be read")
    format_ = groups[0].get("format") or settings["format"]
    if format_ not in (*PLAIN, PACKED, FP4):
        raise Damaged(f"the format {str(format_)[:40]!r} cannot be read")
    return format_, groups[0]["weights"]


def _plain(weight: Tensor, scale: Tensor, zero: Tensor | None, weights: dict[str, Any]) -> Tensor:
    if zero is not None and whole(zero).any():
        raise Damaged(f"{zero.name} is not zero: codes that are not symmetric must be packed")
    group = weights.get("group_size")
    if weight.type is Type.I8:
        codes = weight
        weight = lazily(
            weight.name,
            Type.F32,
            weight.shape,
            lambda start, stop: codes.rows(start, stop).view(np.int8).astype(np.float32),
        )
    block = weights.get("block_structure") or ([1, group] if group else None)
    return scaled(weight, scale, block)


def _packed(
    name: str,
    weights: dict[str, Any],
    words: Tensor | None,
    scale: Tensor | None,
    shape: Tensor | None,
    zero: Tensor | None,
    order: Tensor | None,
) -> Tensor:
    bits = weights["num_bits"]
    if words is None or scale is None or shape is None or words.type is not Type.I32:
        raise Damaged(f"{name} lacks its codes, scales or shape")
    if bits not in range(1, 9) or weights.get("type", "int") != "int":
        raise Damaged(f"weights of {bits!r} bits of type {weights.get('type')!r}")
    n_rows, n_columns = (int(n) for n in whole(matched(name, shape, 2)))
    per_word = WORD // bits
    matched(name, words, n_rows, -(-n_columns // per_word))
    n_groups = scale.shape[-1]
    matched(name, scale, n_rows, n_groups)
    if order is not None:
        matched(name, order, n_columns)
    shifts = np.arange(per_word, dtype=np.uint32) * np.uint32(bits)
    mask = np.uint32((1 << bits) - 1)

    def read() -> tuple[NDArray[np.intp], NDArray[np.int32] | None]:
        groups = np.arange(n_columns) // -(-n_columns // n_groups) if order is None else whole(order).astype(np.intp)
        if groups.min() < 0 or groups.max() >= n_groups:
            raise Damaged(f"{name} has inputs in group {int(groups.max())} of {n_groups}")
        if zero is None:
            return groups, None
        matched(name, zero, -(-n_rows // per_word), n_groups)
        packed = whole(zero).view(np.uint32)
        return groups, (packed[:, None] >> shifts[:, None] & mask).reshape(-1, n_groups)[:n_rows].astype(np.int32)

    stored = once(read)

    def rows(start: int, stop: int) -> NDArray[Any]:
        groups, zeros = stored()
        found = words.rows(start, stop).view(np.uint32)[:, :, None] >> shifts & mask
        codes = found.reshape(stop - start, -1)[:, :n_columns].astype(np.int32)
        origin = 1 << (bits - 1) if zeros is None else zeros[start:stop][:, groups]
        return (codes - origin).astype(np.float32) * to_float32(scale.rows(start, stop))[:, groups]

    floats(scale)  # they are floats, and few enough
    return lazily(name, Type.F32, (n_rows, n_columns), rows)
