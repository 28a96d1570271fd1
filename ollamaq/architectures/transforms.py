"""What families do to tensors on their way into a GGUF, a span of rows at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.architectures.family import Config, Extra, Rearrange, Split, constant, with_row_order
from ollamaq.tensors import Tensor, to_float32

Order = NDArray[np.intp]


def plus_one(tensor: Tensor, config: Config) -> Tensor:
    """Gemma's norms scale by one more than they say. The sum is a float32, in half precision where the weights are."""
    if tensor.type is Type.F16:
        return Tensor(tensor.name, Type.F16, tensor.shape, lambda start, stop: tensor.rows(start, stop) + np.float16(1))

    def rows(start: int, stop: int) -> NDArray[Any]:
        return to_float32(tensor.rows(start, stop)) + np.float32(1)

    return Tensor(tensor.name, Type.F32, tensor.shape, rows)


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

    def split(tensor: Tensor, config: Config) -> dict[str, Order]:
        heads = np.arange(tensor.shape[0]).reshape(
            config[groups], config["num_attention_heads"] // config[groups] + 2, -1
        )
        return {
            "attn_q": heads[:, :-2].reshape(-1),
            "attn_k": heads[:, -2].reshape(-1),
            "attn_v": heads[:, -1].reshape(-1),
        }

    return split


def ungrouped(groups: str) -> Rearrange:
    """Such a matrix, or its bias, with all queries first, then the keys, then the values."""
    split = by_groups(groups)

    def rearrange(tensor: Tensor, config: Config) -> Tensor:
        return with_row_order(tensor, np.concatenate([*split(tensor, config).values()]))

    return rearrange


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
