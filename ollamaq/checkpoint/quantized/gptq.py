"""GPTQ, as AutoGPTQ and GPTQModel store it: codes packed along the inputs, zeros along the outputs.

Arithmetic: llama.cpp's ``conversion/base.py``; for 3 bits, which it does not read, AutoGPTQ's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.checkpoint.quantized.parts import (
    WORD,
    Damaged,
    Settings,
    Tensors,
    floats,
    lazily,
    matched,
    once,
    unpacked,
    whole,
)
from ollamaq.tensors import Tensor

FORMATS = ("gptq", "gptq_v2")
BITS = (2, 3, 4, 8)


def restored(tensors: Tensors, settings: Settings) -> dict[str, Tensor]:
    bits, format_ = settings["bits"], settings.get("checkpoint_format", "gptq")
    if bits not in BITS:
        raise Damaged(f"weights of {bits!r} bits")
    if format_ not in FORMATS:
        raise Damaged(f"the format {str(format_)[:40]!r} cannot be read: save it as {FORMATS[0]}")
    out = dict(tensors)
    for name in tensors:
        if name.endswith(".qweight"):
            base = name.removesuffix(".qweight")
            parts = {part: out.pop(f"{base}.{part}", None) for part in ("qweight", "qzeros", "scales", "g_idx")}
            weight = f"{base}.weight"
            out[weight] = _weight(weight, parts, bits, settings, first_zero=1 if format_ == "gptq" else 0)
    return out


def described(settings: Settings) -> str:
    group = settings.get("group_size", -1)
    each = f"groups of {group}" if isinstance(group, int) and group > 0 else "each row"
    return f"weights were GPTQ of {settings['bits']} bits, with a scale for {each}"


def _weight(name: str, parts: dict[str, Tensor | None], bits: int, settings: Settings, first_zero: int) -> Tensor:
    qweight, qzeros, scales, order = (parts[part] for part in ("qweight", "qzeros", "scales", "g_idx"))
    if qweight is None or qzeros is None or scales is None:
        raise Damaged(f"{name} lacks its codes, zeros or scales")
    if len(qweight.shape) != 2 or qweight.type is not Type.I32 or qzeros.type is not Type.I32:
        raise Damaged(f"{qweight.name} holds no 32-bit words")
    n_in, n_out = qweight.shape[0] * WORD // bits, qweight.shape[1]
    n_groups = scales.shape[0]
    matched(name, scales, n_groups, n_out)
    matched(name, qzeros, n_groups, n_out * bits // WORD)
    if order is not None:
        matched(name, order, n_in)

    def read() -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32], NDArray[np.intp]]:
        groups = np.arange(n_in) // -(-n_in // n_groups) if order is None else whole(order).astype(np.intp)
        if groups.min() < 0 or groups.max() >= n_groups:
            raise Damaged(f"{name} has inputs in group {int(groups.max())} of {n_groups}")
        zeros = unpacked(whole(qzeros).T, bits, n_out).T + first_zero
        return whole(qweight), zeros, floats(scales), groups

    stored = once(read)

    def rows(start: int, stop: int) -> NDArray[Any]:
        words, zeros, factors, groups = stored()
        codes = unpacked(np.ascontiguousarray(words[:, start:stop]), bits, n_in)
        values = (codes - zeros[groups, start:stop]).astype(np.float32)
        return np.ascontiguousarray((factors[groups, start:stop] * values).T)

    return lazily(name, Type.F32, (n_out, n_in), rows)
