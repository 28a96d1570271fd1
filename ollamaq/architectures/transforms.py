"""What families do to tensors on their way into a GGUF, a span of rows at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.architectures.family import Config, Extra, Rearrange, Split, constant, with_row_order
from ollamaq.tensors import Tensor, to_float32

Order = NDArray[np.intp]
FLOATS = (Type.F32, Type.F16, Type.BF16)


class NotByRows(Exception):
    """Blocks of a quantized type can be moved a row at a time; this needs their values."""


def of_values(tensor: Tensor) -> Tensor:
    """The tensor, if it has values and no blocks.

    Raises:
        NotByRows: it has blocks.
    """
    if tensor.type not in FLOATS:
        raise NotByRows(tensor.name)
    return tensor


def plus_one(tensor: Tensor, config: Config) -> Tensor:
    """Gemma's norms scale by one more than they say. The sum is a float32, in half precision where the weights are."""
    if of_values(tensor).type is Type.F16:
        return Tensor(tensor.name, Type.F16, tensor.shape, lambda start, stop: tensor.rows(start, stop) + np.float16(1))

    def rows(start: int, stop: int) -> NDArray[Any]:
        return to_float32(tensor.rows(start, stop)) + np.float32(1)

    return Tensor(tensor.name, Type.F32, tensor.shape, rows)


def minus_exp(tensor: Tensor, config: Config) -> Tensor:
    """A state's decay, of which a checkpoint has the logarithm; in half precision where the weights are."""
    half = of_values(tensor).type is Type.F16

    def rows(start: int, stop: int) -> NDArray[Any]:
        with np.errstate(over="ignore"):  # infinite then, which the quantizer reports with its place
            decay = -np.exp(to_float32(tensor.rows(start, stop)).astype(np.float64)).astype(np.float32)
            return decay.astype(np.float16) if half else decay

    return Tensor(tensor.name, Type.F16 if half else Type.F32, tensor.shape, rows)


def scaled(tensor: Tensor, *factors: float | NDArray[np.float32]) -> Tensor:
    """The tensor multiplied by each factor in turn, a number or one for each row, rounded each time as PyTorch does."""
    stored = np.float16 if of_values(tensor).type is Type.F16 else np.float32

    def rows(start: int, stop: int) -> NDArray[Any]:
        values = to_float32(tensor.rows(start, stop))
        with np.errstate(over="ignore", invalid="ignore"):  # not finite then, which the quantizer reports
            for factor in factors:
                by = factor[start:stop, None] if isinstance(factor, np.ndarray) else np.float32(factor)
                values = (values * by).astype(stored).astype(np.float32)
            return values.astype(stored)

    return Tensor(tensor.name, Type.F16 if stored is np.float16 else Type.F32, tensor.shape, rows)


def reshaped(tensor: Tensor, *shape: int) -> Tensor:
    """The same values in other axes; where the row's length changes, the tensor is small and read whole."""
    if math.prod(shape) != tensor.n_values:
        raise ValueError(f"{tensor.name} of shape {list(tensor.shape)} cannot become {list(shape)}")
    if shape[-1] == tensor.row:
        return Tensor(tensor.name, tensor.type, shape, tensor.rows)
    of_values(tensor)

    def rows(start: int, stop: int) -> NDArray[Any]:
        return tensor.rows(0, tensor.n_rows).reshape(-1, shape[-1])[start:stop]

    return Tensor(tensor.name, tensor.type, shape, rows)


def with_columns(tensor: Tensor, order: Order) -> Tensor:
    """These places of every row, in this order."""
    shape = (*tensor.shape[:-1], len(order))
    return Tensor(tensor.name, of_values(tensor).type, shape, lambda start, stop: tensor.rows(start, stop)[:, order])


def transposed(tensor: Tensor) -> Tensor:
    """A matrix, or each of a stack, with rows and columns exchanged. Each matrix is read whole, one at a time."""
    *outer, height, width = of_values(tensor).shape

    def rows(start: int, stop: int) -> NDArray[Any]:
        parts = [tensor.rows(0, 0).reshape(0, height)]
        for i in range(start // width, -(-stop // width)):
            low, high = max(start - i * width, 0), min(stop - i * width, width)
            parts.append(tensor.rows(i * height, (i + 1) * height)[:, low:high].T)
        return np.concatenate(parts)

    return Tensor(tensor.name, tensor.type, (*outer, width, height), rows)


def left_out(tensor: Tensor, config: Config) -> dict[str, Order]:
    """A tensor that llama.cpp has no use for."""
    return {}


def cut(**parts: str) -> Split:
    """Rows, one part after another: GGUF names, each with the name of its number of rows in the config."""

    def split(tensor: Tensor, config: Config) -> dict[str, Order]:
        ends = np.cumsum([config[size] for size in parts.values()])
        return {name: np.arange(end - config[size], end) for (name, size), end in zip(parts.items(), ends, strict=True)}

    return split


def by_groups(groups: str) -> Split:
    """Queries, keys and values of a matrix whose rows come in groups: a few query heads, a key head and a value head.

    ``groups`` counts them in the config.
    """
    return lambda tensor, config: dict(
        zip(("attn_q", "attn_k", "attn_v"), _groups(tensor, config, groups), strict=True)
    )


def _groups(tensor: Tensor, config: Config, groups: str) -> tuple[Order, Order, Order]:
    heads = np.arange(tensor.shape[0]).reshape(config[groups], config["num_attention_heads"] // config[groups] + 2, -1)
    return heads[:, :-2].reshape(-1), heads[:, -2].reshape(-1), heads[:, -1].reshape(-1)


def ungrouped(groups: str) -> Rearrange:
    """Such a matrix, or its bias, with all queries first, then the keys, then the values."""
    return lambda tensor, config: with_row_order(tensor, np.concatenate(_groups(tensor, config, groups)))


def longrope(length: str) -> Extra:
    """LongRoPE's factor of each pair of a head, for ``long`` or ``short`` contexts, where the config has them."""

    def extra(config: Config) -> Tensor | None:
        factors = config["rope_parameters"].get(f"{length}_factor")
        if not factors:
            return None
        values = np.array(factors, dtype=np.float32)
        if len(values.shape) != 1:
            raise ValueError(f"{length}_factor is no list of numbers")
        return constant(f"rope_factors_{length}.weight", values)

    return extra
