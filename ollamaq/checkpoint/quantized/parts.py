"""What the schemes share: packed bits, 8-bit floats, and stored tensors read whole where they are small."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.errors import ModelRefused
from ollamaq.tensors import Tensor, to_float32

Tensors = Mapping[str, Tensor]
Settings = Mapping[str, Any]

T = TypeVar("T")
WORD = 32
"""Bits of the words that codes are packed in."""
MAX_WHOLE = 1 << 28
"""Values of a tensor that is read whole: scales, and codes whose rows are the weight's columns."""


class Damaged(ModelRefused):
    """Tensors or settings of a scheme do not fit each other; ``what`` says which."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the quantized weights are damaged: {what}", next_step="fetch or save the model again")
        self.what = what


@dataclass(frozen=True)
class Kept:
    """A quantized weight in blocks of a GGUF type, and what they are multiplied by.

    ``input_scale`` is what the layer's inputs were divided by when they were quantized too. Of experts that are stacked
    into one tensor, each has its own numbers.
    """

    blocks: Tensor
    scale: float = 1.0
    input_scale: float = 1.0


def whole(tensor: Tensor) -> NDArray[Any]:
    """All the values of a tensor, in its shape and stored type."""
    if tensor.n_values > MAX_WHOLE:
        raise Damaged(f"{tensor.name} has {tensor.n_values:,} values")
    return tensor.rows(0, tensor.n_rows).reshape(tensor.shape)


def floats(tensor: Tensor) -> NDArray[np.float32]:
    """The same, widened to float32."""
    if tensor.type not in (Type.F32, Type.F16, Type.BF16):
        raise Damaged(f"{tensor.name} holds no floats")
    return to_float32(whole(tensor))


def once(read: Callable[[], T]) -> Callable[[], T]:
    """What ``read`` gives, kept from its first use on; from any thread."""
    lock = threading.Lock()
    kept: list[T] = []

    def get() -> T:
        with lock:
            if not kept:
                kept.append(read())
            return kept[0]

    return get


def unpacked(words: NDArray[Any], bits: int, count: int) -> NDArray[np.int32]:
    """The first ``count`` codes of ``bits`` bits along axis 0 of 32-bit words, from the lowest bit on, without gaps."""
    words = words.view(np.uint32).astype(np.uint64)
    if count * bits > len(words) * WORD:
        raise Damaged(f"{len(words)} words are too few for {count} codes of {bits} bits")
    at = np.arange(count) * bits
    first, shift = at // WORD, (at % WORD).astype(np.uint64).reshape(-1, *[1] * (words.ndim - 1))
    following = np.minimum(first + 1, len(words) - 1)
    pairs = words[first] | words[following] << np.uint64(WORD)
    codes: NDArray[np.int32] = (pairs >> shift & np.uint64((1 << bits) - 1)).astype(np.int32)
    return codes


def lazily(name: str, type_: Type, shape: tuple[int, ...], rows: Callable[[int, int], NDArray[Any]]) -> Tensor:
    """A tensor of floats that is computed when its rows are asked for."""
    if 0 in shape or any(not isinstance(n, int) for n in shape):
        raise Damaged(f"{name} would have the shape {list(shape)}")
    return Tensor(name, type_, shape, rows)


def matched(name: str, tensor: Tensor, *shape: int) -> Tensor:
    """The tensor, if it has that shape."""
    if tensor.shape != shape:
        raise Damaged(f"{tensor.name} has the shape {list(tensor.shape)}, and {name} needs {list(shape)}")
    return tensor
