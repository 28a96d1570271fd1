"""What adapters do to a tensor's rows: additions of low rank, new magnitudes, other rows for some tokens.

Everything is computed in float32 and rounded once, to the type that the tensor is stored in. That is what peft's
``merge_and_unload`` does with adapters in float32, as it holds them by default (``autocast_adapter_dtype``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ollamaq.checkpoint.lora.lowrank import F32, LowRank
from ollamaq.tensors import Tensor, from_float32, to_float32

Edit = Callable[[F32, F32, int, int], F32]
"""``edit(values, unedited, start, stop)``: rows ``[start, stop)``, all of one matrix, as this edit leaves them."""

BLOCK = 1 << 18
"""Values edited at once."""


def edited(tensor: Tensor, edits: Sequence[Edit]) -> Tensor:
    """The tensor with edits made one after another, in the type it is stored in."""

    def rows(start: int, stop: int) -> NDArray[Any]:
        parts = [tensor.rows(start, start)]
        with np.errstate(all="ignore"):  # what is not finite is found, and told with its place, when it is written
            for low, high in blocks(tensor, start, stop):
                unedited = to_float32(tensor.rows(low, high))
                values = unedited
                for edit in edits:
                    values = edit(values, unedited, low, high)
                parts.append(from_float32(values, tensor.type))
        return np.concatenate(parts)

    return Tensor(tensor.name, tensor.type, tensor.shape, rows)


def blocks(tensor: Tensor, start: int, stop: int) -> list[tuple[int, int]]:
    """Spans of rows that are small and lie in one matrix each."""
    step, matrix = max(1, BLOCK // tensor.row), rows_of_matrix(tensor)
    found = []
    while start < stop:
        end = min(stop, start + step, (start // matrix + 1) * matrix)
        found.append((start, end))
        start = end
    return found


def rows_of_matrix(tensor: Tensor) -> int:
    return tensor.shape[-2] if len(tensor.shape) > 1 else 1


@dataclass(frozen=True, eq=False)
class WithMagnitude:
    """DoRA (arXiv 2402.09353): what ``product`` is added to, with the length of each output's weights set anew.

    An output is a row, or a column where ``by_column``; then the whole ``tensor`` is read once to measure them.
    """

    product: LowRank
    magnitude: Tensor
    tensor: Tensor
    by_column: bool

    def __call__(self, values: F32, unedited: F32, start: int, stop: int) -> F32:
        delta = self.product.delta(start, stop)
        if self.by_column:
            factors = self._column_factors
        else:
            lengths = _lengths(np.square(unedited + delta, dtype=np.float64).sum(axis=1))
            factors = (_row(self.magnitude)[start:stop] / lengths)[:, None]
        set_anew: F32 = factors * (values + delta)
        return set_anew

    @cached_property
    def _column_factors(self) -> F32:
        squares = np.zeros(self.tensor.row)
        for low, high in blocks(self.tensor, 0, self.tensor.n_rows):
            adapted = to_float32(self.tensor.rows(low, high)) + self.product.delta(low, high)
            squares += np.square(adapted, dtype=np.float64).sum(axis=0)
        factors: F32 = _row(self.magnitude) / _lengths(squares)
        return factors


def _lengths(squares: NDArray[np.float64]) -> F32:
    lengths: F32 = np.sqrt(squares).astype(np.float32)
    return lengths


def _row(tensor: Tensor) -> F32:
    row: F32 = to_float32(tensor.rows(0, 1))[0]
    return row


@dataclass(frozen=True)
class OtherRows:
    """Rows of some tokens, replaced: ``place`` tells which row of ``source`` each token has."""

    source: Tensor
    place: Mapping[int, int]

    def __call__(self, values: F32, unedited: F32, start: int, stop: int) -> F32:
        values = values.copy()
        for token in range(start, stop):
            if (row := self.place.get(token)) is not None:
                values[token - start] = to_float32(self.source.rows(row, row + 1))[0]
        return values


@dataclass(frozen=True)
class AddedVector:
    """A scaled vector, added to a bias."""

    vector: Tensor
    scale: float

    def __call__(self, values: F32, unedited: F32, start: int, stop: int) -> F32:
        added: F32 = values + np.float32(self.scale) * to_float32(self.vector.rows(start, stop))
        return added
