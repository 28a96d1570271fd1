"""bitsandbytes: 4-bit codes (NF4, FP4) with a scale for each block, which may be quantized too, and 8-bit rows.

Format: ``QuantState.as_dict`` of bitsandbytes; arithmetic: its ``dequantize_4bit`` and ``int8_vectorwise_dequant``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.checkpoint.quantized.parts import Damaged, Settings, Tensors, floats, lazily, matched, once, whole
from ollamaq.tensors import Tensor, to_bf16

STATE = ".quant_state.bitsandbytes__"
PARTS = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
MAX_STATE = 1 << 16
PER_127 = np.float32(7.874015718698502e-3)
"""What the scales of 8-bit rows are in."""
STORED: dict[str, Type] = {"bfloat16": Type.BF16, "float16": Type.F16, "float32": Type.F32}


def restored(tensors: Tensors, settings: Settings) -> dict[str, Tensor]:
    out = dict(tensors)
    for name in tensors:
        base, found, _ = name.partition(STATE)
        if found:
            state = _state(out.pop(name))
            parts = {part: tensor for part in PARTS if (tensor := out.pop(f"{base}.{part}", None))}
            out[base] = _four_bits(base, tensors[base], state, parts)
        elif name.endswith(".SCB"):
            weight = f"{name.removesuffix('.SCB')}.weight"
            out[weight] = _eight_bits(tensors[weight], out.pop(name))
        elif name.endswith(".weight_format") and whole(out.pop(name)).any():
            raise Damaged(f"{name} is not that of rows: save the model again with a newer transformers")
    return out


def described(settings: Settings) -> str:
    if settings.get("load_in_8bit"):
        return "weights were 8-bit integers, with a scale for each row"
    kind = str(settings.get("bnb_4bit_quant_type", "fp4")).upper()
    nested = ", which are quantized too" if settings.get("bnb_4bit_use_double_quant") else ""
    return f"weights were {kind}, with a scale for each block{nested}"


def _state(tensor: Tensor) -> dict[str, Any]:
    if tensor.n_values > MAX_STATE:
        raise Damaged(f"{tensor.name} has {tensor.n_values} bytes")
    state = json.loads(whole(tensor).astype(np.uint8).tobytes())
    if not isinstance(state, dict):
        raise Damaged(f"{tensor.name} is no JSON object")
    return state


def _four_bits(name: str, codes: Tensor, state: dict[str, Any], parts: dict[str, Tensor]) -> Tensor:
    shape, block, type_ = tuple(state["shape"]), state["blocksize"], STORED[state["dtype"]]
    if len(shape) != 2 or not all(isinstance(n, int) and n > 0 for n in (*shape, block)):
        raise Damaged(f"{name} has the shape {str(shape)[:40]} in blocks of {str(block)[:20]}")
    n_rows, n_columns = shape
    n_blocks = -(-n_rows * n_columns // block)
    if codes.n_values * 2 < n_rows * n_columns or block % 2 or codes.n_values != codes.n_rows:
        raise Damaged(f"{name} has {codes.n_values} bytes for the shape {list(shape)}")
    absmax, levels = parts["absmax"], matched(name, parts["quant_map"], 16)
    matched(name, absmax, n_blocks)

    def scales() -> NDArray[Any]:
        if "nested_absmax" not in parts:
            return floats(absmax)
        outer = floats(parts["nested_absmax"])[np.arange(n_blocks) // state["nested_blocksize"]]
        inner = floats(parts["nested_quant_map"])[whole(absmax).view(np.uint8)]
        found: NDArray[np.float32] = inner * outer + np.float32(state["nested_offset"])
        return found

    stored = once(lambda: (scales(), floats(levels)))

    def rows(start: int, stop: int) -> NDArray[Any]:
        factors, values = stored()
        first, last = start * n_columns, stop * n_columns
        packed = codes.rows(first // 2, -(-last // 2)).reshape(-1).view(np.uint8)
        both = np.stack((packed >> 4, packed & 15), axis=1).reshape(-1)[first % 2 :][: last - first]
        found = values[both] * factors[np.arange(first, last) // block]
        cast: NDArray[Any] = CASTS[type_](found)
        return cast.reshape(stop - start, n_columns)

    return lazily(name, type_, shape, rows)


CASTS: dict[Type, Callable[[NDArray[Any]], NDArray[Any]]] = {
    Type.F32: lambda values: values,
    Type.F16: lambda values: values.astype(np.float16),
    Type.BF16: to_bf16,
}


def _eight_bits(weight: Tensor, scale: Tensor) -> Tensor:
    if weight.type is not Type.I8 or len(weight.shape) != 2:
        raise Damaged(f"{weight.name} holds no 8-bit rows")
    factors = once(lambda: floats(matched(weight.name, scale, weight.shape[0])).reshape(-1, 1))

    def rows(start: int, stop: int) -> NDArray[Any]:
        codes = weight.rows(start, stop).view(np.int8).astype(np.float32)
        return codes * factors()[start:stop] * PER_127

    return lazily(weight.name, Type.F32, weight.shape, rows)
