"""What mlx-lm saves under names of its own, under those of Hugging Face (``sanitize`` in ``mlx_lm/models``)."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ollamaq.errors import ModelRefused
from ollamaq.tensors import Tensor

STACKED = re.compile(r"(.*\.)switch_mlp\.(gate|down|up)_proj\.weight")
NUMBERED = {"gate": "w1", "down": "w2", "up": "w3"}
"""What Mixtral, PhiMoE and LFM2 call an expert's matrices."""
CONVOLUTION = re.compile(r".*\.(mamba|mixer|linear_attn|conv)\.conv(1d)?\.weight")
MAX_EXPERTS = 4096


def with_usual_names(tensors: dict[str, Tensor], where: Path) -> dict[str, Tensor]:
    """The tensors with each stack of experts as so many matrices.

    Raises:
        ModelRefused: mlx-lm has changed the weights, as it does where there are convolutions: it moves their axes, and
            adds 1 to norms or multiplies by settings of the config.
    """
    usual: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if CONVOLUTION.fullmatch(name) and len(tensor.shape) == 3 and tensor.shape[1] > 1 == tensor.shape[2]:
            raise ModelRefused(
                f"{where} has {name!r} of shape {list(tensor.shape)}, as mlx-lm saves weights that it has changed",
                next_step="give the model as it was before mlx-lm converted it",
            )
        if (stack := STACKED.fullmatch(name)) and len(tensor.shape) == 3 and tensor.shape[0] <= MAX_EXPERTS:
            kind = f"{stack[2]}_proj" if stack[1].endswith(".mlp.") else NUMBERED[stack[2]]
            for i in range(tensor.shape[0]):
                expert = f"{stack[1]}experts.{i}.{kind}.weight"
                first = i * tensor.shape[1]
                usual[expert] = Tensor(expert, tensor.type, tensor.shape[1:], partial(_rows, tensor, first))
        else:
            usual[name] = tensor
    return usual


def _rows(stack: Tensor, first: int, start: int, stop: int) -> NDArray[Any]:
    return stack.rows(first + start, first + stop)
