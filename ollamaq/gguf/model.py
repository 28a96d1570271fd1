"""A model in GGUF's terms, before or after it lies in a file: ordered metadata and lazy tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gguf import GGUFValueType

from ollamaq.tensors import Tensor


@dataclass(frozen=True)
class Value:
    """A metadata value with its GGUF type; ``element`` is the type of an array's elements."""

    type: GGUFValueType
    value: Any
    element: GGUFValueType | None = None


Metadata = dict[str, Value]


@dataclass(frozen=True)
class Model:
    """Metadata and tensors in the order in which the file holds them."""

    metadata: Metadata
    tensors: tuple[Tensor, ...]
