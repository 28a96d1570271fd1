"""Experts: matrices of a checkpoint's many files become one tensor of three axes, read a span of rows at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ollamaq.architectures.family import EXPERTS, Computed, Config, Gather, Named, Shape, Split, key
from ollamaq.errors import ModelRefused
from ollamaq.tensors import Tensor


def stacked(*matrices: str) -> Gather:
    """``….experts.N.MATRIX.weight`` as ``….experts.MATRIX.weight``, in this order, where the last of a layer stood.

    Raises:
        ModelRefused: experts are missing, or they differ in shape or dtype.
    """
    pattern = re.compile(rf"(.+\.experts)\.(\d+)\.({'|'.join(matrices)})\.weight")

    def gather(tensors: Named, config: Config) -> Iterator[tuple[str, Tensor]]:
        count = n_experts(config)
        waiting: dict[str, dict[tuple[str, int], Tensor]] = {}
        for name, tensor in tensors:
            match = pattern.fullmatch(name)
            if not match or int(match[2]) >= count:
                yield name, tensor
                continue
            layer = waiting.setdefault(match[1], {})
            layer[match[3], int(match[2])] = tensor
            if len(layer) == count * len(matrices):
                for matrix in matrices:
                    yield f"{match[1]}.{matrix}.weight", stack([layer[matrix, i] for i in range(count)])
                del waiting[match[1]]
        for experts, layer in waiting.items():
            raise ModelRefused(
                f"the checkpoint has {len(layer)} matrices of {experts}, where {count} experts"
                f" have {count * len(matrices)}",
                next_step="is the checkpoint complete, and config.json its own?",
            )

    return gather


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape, one after another, as one with another axis in front."""
    first = tensors[0]
    for tensor in tensors:
        if tensor.shape != first.shape or tensor.type is not first.type:
            raise ModelRefused(
                f"tensors {first.name!r} and {tensor.name!r} are {first.type.name} of shape {list(first.shape)}, and"
                f" {tensor.type.name} of {list(tensor.shape)}; experts must be alike",
                next_step="save the model again",
            )
    n = first.n_rows

    def rows(start: int, stop: int) -> NDArray[Any]:
        parts = [tensors[i].rows(max(start - i * n, 0), min(stop - i * n, n)) for i in range(start // n, -(-stop // n))]
        return np.concatenate(parts) if parts else first.rows(0, 0)

    return Tensor(first.name, first.type, (len(tensors), *first.shape), rows)


def as_it_is(name: str) -> Split:
    """A stack in the checkpoint already, under a name that gguf-py does not know."""
    return lambda tensor, config: {name: tensor}


def gate_and_up(gate: str, up: str) -> Split:
    """A matrix, or a stack of them, whose first half of rows is the gate's."""

    def split(tensor: Tensor, config: Config) -> dict[str, NDArray[np.intp]]:
        first, second = np.split(np.arange(tensor.n_rows).reshape(*tensor.shape[:-2], -1), 2, axis=-1)
        return {gate: first, up: second}

    return split


EXPERT_KEYS = (
    key("expert_feed_forward_length", "moe_intermediate_size"),
    key("expert_shared_feed_forward_length", "shared_expert_intermediate_size"),
)
"""What most families with experts write of their width."""

ROUTED: dict[str, Shape] = {
    "ffn_gate_inp": ("experts", "hidden_size"),
    "ffn_gate_exps": ("experts", "expert_width", "hidden_size"),
    "ffn_up_exps": ("experts", "expert_width", "hidden_size"),
    "ffn_down_exps": ("experts", "hidden_size", "expert_width"),
}
"""A layer's router and experts."""


def n_experts(config: Config) -> int:
    """Of a layer; 0 for a config without experts."""
    return int(next((config[name] for name in (*EXPERTS, "moe_num_experts") if name in config), 0))


def routed(width: str) -> dict[str, Computed]:
    """``sizes`` of ``ROUTED``, where the config has an expert's width under this name."""
    return {"experts": lambda config: n_experts(config) or 1, "expert_width": lambda config: config[width]}


def without_ffn(block: Mapping[str, Shape]) -> dict[str, Shape]:
    """A layer's tensors but those of its dense network."""
    return {name: shape for name, shape in block.items() if name not in ("ffn_gate", "ffn_up", "ffn_down")}
