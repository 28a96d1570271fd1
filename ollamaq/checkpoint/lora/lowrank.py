"""The factors of an adapter and their product, the same to the last bit on every machine and for every span of rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ollamaq.tensors import Tensor, to_float32

F32 = NDArray[np.float32]

MANTISSA = 53
"""Bits of a float64."""


@dataclass(frozen=True)
class Factors:
    """``A`` (rank x inputs) and ``B`` (outputs x rank) as they are stored.

    ``as_inputs`` is mlx-lm's order: A inputs x rank, B rank x outputs. Of ``experts``, A is (experts x rank) x inputs;
    B is outputs x (rank x experts) in peft's files, and has three axes, experts first, in mlx-lm's.
    """

    A: Tensor
    B: Tensor
    as_inputs: bool = False
    experts: int = 1

    @property
    def inputs(self) -> int:
        return self.A.shape[0] if self.as_inputs else self.A.row

    @property
    def outputs(self) -> int:
        return self.B.row if self.as_inputs else self.B.shape[-2]

    @property
    def rank(self) -> int:
        """Of each expert, where the factors agree; otherwise 0."""
        ours = self.A.row if self.as_inputs else self.A.n_rows
        theirs = self.B.n_rows if self.as_inputs else self.B.row * (self.B.shape[0] if len(self.B.shape) == 3 else 1)
        return ours // self.experts if ours == theirs and ours % self.experts == 0 else 0

    def a(self, expert: int, start: int, stop: int) -> F32:
        """Columns of an expert's A, which are inputs."""
        if self.as_inputs:
            return to_float32(self.A.rows(start, stop)).T
        return to_float32(_stored(self.A, expert * self.rank, (expert + 1) * self.rank)[:, start:stop])

    def b(self, expert: int, start: int, stop: int) -> F32:
        """Rows of an expert's B, which are outputs."""
        if self.as_inputs:
            return to_float32(_stored(self.B, 0, self.rank)[:, start:stop]).T
        if len(self.B.shape) == 3:
            return to_float32(self.B.rows(expert * self.outputs + start, expert * self.outputs + stop))
        rows = to_float32(self.B.rows(start, stop))
        return rows.reshape(stop - start, self.rank, self.experts)[:, :, expert]


@lru_cache(maxsize=4)
def _stored(tensor: Tensor, start: int, stop: int) -> NDArray[Any]:
    return tensor.rows(start, stop)


@dataclass(frozen=True)
class FixedPoint:
    """A matrix as integers of some bits, times a power of two for each row (``axis`` 1) or column (``axis`` 0)."""

    integers: NDArray[np.float64]
    exponents: NDArray[np.int32]

    @classmethod
    def of(cls, values: F32, axis: int) -> FixedPoint:
        bits = (MANTISSA - values.shape[axis].bit_length()) // 2  # a sum of that many products fits a float64
        exponents = np.frexp(np.abs(values).max(axis=axis, keepdims=True))[1]
        return cls(np.rint(np.ldexp(values.astype(np.float64), bits - exponents)), exponents - bits)


@dataclass(frozen=True)
class LowRank:
    """``scale * B @ A`` of each matrix of a tensor with ``rows`` rows a matrix.

    Both factors are rounded to the 24 bits or so below the largest value of their row or column, which is what float32
    has; then the product is exact, in whatever order and with whatever instructions a library sums it up.

    ``by_input``: the tensor has a row for each input, and the product is transposed. ``expert`` is whose factors they
    are, if not those of the matrix; ``first`` is the output that the tensor begins with.
    """

    factors: Factors
    scale: float
    rows: int
    by_input: bool = False
    expert: int | None = None
    first: int = 0

    @property
    def plain(self) -> bool:
        """Whether it is of one matrix with a row for each output."""
        return not self.by_input and self.expert is None and self.factors.experts == 1

    def delta(self, start: int, stop: int) -> F32:
        """What is added to rows ``[start, stop)``, which are of one matrix."""
        matrix, low = divmod(start, self.rows)
        expert, high = matrix if self.expert is None else self.expert, low + stop - start
        if self.by_input:
            left = FixedPoint.of(self.factors.a(expert, low, high).T, 1)
        else:
            left = FixedPoint.of(self.factors.b(expert, self.first + low, self.first + high), 1)
        right = _right(self.factors, self.by_input, expert)
        exact = np.ldexp(left.integers @ right.integers, left.exponents + right.exponents)
        added: F32 = (exact * self.scale).astype(np.float32)
        return added

    def __call__(self, values: F32, unedited: F32, start: int, stop: int) -> F32:
        added: F32 = values + self.delta(start, stop)
        return added


@lru_cache(maxsize=8)
def _right(factors: Factors, by_input: bool, expert: int) -> FixedPoint:
    if by_input:
        return FixedPoint.of(factors.b(expert, 0, factors.outputs).T, 0)
    return FixedPoint.of(factors.a(expert, 0, factors.inputs), 0)
