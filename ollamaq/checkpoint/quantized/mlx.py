"""mlx-lm: codes packed along the inputs, ``scale * code + bias`` in groups (MLX's affine ``quantize``)."""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.checkpoint.quantized.parts import WORD, Damaged, Settings, Tensors, lazily, matched, unpacked
from ollamaq.tensors import Tensor, to_float32

BITS = (2, 3, 4, 5, 6, 8)


def restored(tensors: Tensors, settings: Settings) -> dict[str, Tensor]:
    if settings.get("mode", "affine") != "affine":
        raise Damaged(f"the mode {str(settings['mode'])[:20]!r} cannot be read")
    out = dict(tensors)
    for name in tensors:
        if name.endswith(".scales"):
            base = name.removesuffix(".scales")
            own = settings.get(base)  # some layers have more bits than others
            chosen = {**settings, **own} if isinstance(own, dict) else settings
            codes = tensors[f"{base}.weight"]
            out[codes.name] = _weight(codes, out.pop(name), out.pop(f"{base}.biases"), chosen)
    return out


def described(settings: Settings) -> str:
    bits, group = settings["bits"], settings["group_size"]
    return f"weights were {bits}-bit integers of MLX, with a scale and a bias for groups of {group}"


def _weight(words: Tensor, scales: Tensor, biases: Tensor, settings: Settings) -> Tensor:
    bits, group = settings["bits"], settings["group_size"]
    if bits not in BITS or not isinstance(group, int) or group <= 0 or words.type is not Type.I32:
        raise Damaged(f"{words.name} has {bits!r} bits in groups of {group!r}")
    n_columns = words.shape[-1] * WORD // bits
    for part in (scales, biases):
        matched(words.name, part, *words.shape[:-1], n_columns // group)

    def rows(start: int, stop: int) -> NDArray[Any]:
        codes = unpacked(np.ascontiguousarray(words.rows(start, stop).T), bits, n_columns).T
        each, origin = (np.repeat(to_float32(part.rows(start, stop)), group, axis=1) for part in (scales, biases))
        return np.ascontiguousarray(codes.astype(np.float32) * each + origin)

    return lazily(words.name, Type.F32, (*words.shape[:-1], n_columns), rows)
