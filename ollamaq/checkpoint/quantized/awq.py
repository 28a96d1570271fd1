"""AWQ: 4-bit codes with zeros, in AutoAWQ's layouts: ``gemm`` (packed along the outputs) and ``gemv`` (the inputs)."""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.checkpoint.quantized.parts import (
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

BITS, IN_WORD = 4, 8
ORDER = np.array([0, 4, 1, 5, 2, 6, 3, 7])
"""Where in its word ``gemm`` has each output."""
VERSIONS = ("gemm", "gemv")


def restored(tensors: Tensors, settings: Settings) -> dict[str, Tensor]:
    bits, version = settings.get("bits", settings.get("w_bit")), str(settings.get("version", "gemm")).lower()
    group = settings.get("group_size", settings.get("q_group_size"))
    if bits != BITS or version not in VERSIONS or not isinstance(group, int):
        raise Damaged(f"the version {version[:20]!r} of {bits!r} bits in groups of {group!r} cannot be read")
    layout = {"gemm": _gemm, "gemv": _gemv}[version]
    out = dict(tensors)
    for name in tensors:
        if name.endswith(".qweight"):
            base = name.removesuffix(".qweight")
            codes, zeros, scales = (out.pop(f"{base}.{part}") for part in ("qweight", "qzeros", "scales"))
            if {codes.type, zeros.type} != {Type.I32} or len(codes.shape) != 2:
                raise Damaged(f"{name} holds no 32-bit words")
            out[f"{base}.weight"] = layout(f"{base}.weight", codes, zeros, scales, group)
    return out


def described(settings: Settings) -> str:
    group = settings.get("group_size", settings.get("q_group_size"))
    return f"weights were AWQ of 4 bits, with a scale for groups of {group}"


def _gemm(name: str, codes: Tensor, zeros: Tensor, scales: Tensor, group: int) -> Tensor:
    n_in, n_out = codes.shape[0], codes.shape[1] * IN_WORD
    group = n_in if group <= 0 else group
    n_groups = -(-n_in // group)
    matched(name, zeros, n_groups, codes.shape[1])
    matched(name, scales, n_groups, n_out)

    def outputs(words: NDArray[np.int32]) -> NDArray[np.int32]:
        """Rows of words as rows of codes."""
        shifted = words.view(np.uint32)[:, :, None] >> (BITS * ORDER).astype(np.uint32) & 15
        return shifted.reshape(len(words), -1).astype(np.int32)

    stored = once(lambda: (whole(codes), outputs(whole(zeros)), floats(scales)))

    def rows(start: int, stop: int) -> NDArray[Any]:
        words, origin, factors = stored()
        first, last = start // IN_WORD, -(-stop // IN_WORD)
        found = outputs(np.ascontiguousarray(words[:, first:last]))[:, start - first * IN_WORD : stop - first * IN_WORD]
        groups = np.arange(n_in) // group
        values = (found - origin[groups, start:stop]).astype(np.float32) * factors[groups, start:stop]
        return np.ascontiguousarray(values.T.astype(np.float16))

    return lazily(name, Type.F16, (n_out, n_in), rows)


def _gemv(name: str, codes: Tensor, zeros: Tensor, scales: Tensor, group: int) -> Tensor:
    n_out, n_in = codes.shape[0], codes.shape[1] * IN_WORD
    group = n_in if group <= 0 else group
    n_groups = -(-n_in // group)
    if zeros.shape[0] != n_out or scales.shape[0] != n_out or scales.shape[-1] < n_groups:
        raise Damaged(f"{scales.name} has the shape {list(scales.shape)}, and {codes.name} {list(codes.shape)}")

    def rows(start: int, stop: int) -> NDArray[Any]:
        found = unpacked(np.ascontiguousarray(codes.rows(start, stop).T), BITS, n_in).T
        origin = unpacked(np.ascontiguousarray(zeros.rows(start, stop).T), BITS, n_groups).T
        factors = scales.rows(start, stop).astype(np.float32)
        groups = np.arange(n_in) // group
        return ((found - origin[:, groups]).astype(np.float32) * factors[:, groups]).astype(np.float16)

    return lazily(name, Type.F16, (n_out, n_in), rows)
