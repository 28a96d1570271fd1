"""Quantized weights that stay as they are: in blocks of a GGUF type which give exactly the numbers they stood for.

NVFP4 is kept by its codes, as llama.cpp's converter does it (``conversion/base.py``): what a whole tensor is multiplied
by becomes a tensor beside it. All other schemes, and weights trained on a lattice, are known by their numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType
from numpy.typing import NDArray

from ollamaq.architectures.family import constant
from ollamaq.checkpoint import Checkpoint
from ollamaq.errors import ModelRefused
from ollamaq.quantize.dequantize import FLOATS
from ollamaq.quantize.lattice import exact_blocks, lattice_type
from ollamaq.tensors import Tensor, to_float32

FILE_TYPES = {
    Type.Q4_0: LlamaFileType.MOSTLY_Q4_0,
    Type.Q4_1: LlamaFileType.MOSTLY_Q4_1,
    Type.Q5_0: LlamaFileType.MOSTLY_Q5_0,
    Type.Q5_1: LlamaFileType.MOSTLY_Q5_1,
    Type.Q8_0: LlamaFileType.MOSTLY_Q8_0,
    Type.MXFP4: LlamaFileType.MOSTLY_MXFP4_MOE,
    Type.NVFP4: LlamaFileType.MOSTLY_NVFP4,
}
"""What a file says of itself, by the type that most of its kept tensors have."""
EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(.+)")
ONE = 1e-6
"""A scale as near to 1 is none."""


@dataclass(frozen=True)
class Scales:
    """What a kept tensor is multiplied by, and what its inputs were divided by; stacked experts have several."""

    weights: tuple[float, ...]
    inputs: tuple[float, ...]


def kept_blocks(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], dict[str, Scales]]:
    """The checkpoint's tensors, those in blocks that can be, and the scales of these, by name.

    Experts have theirs under the name of the stack that they become, and are kept all or none.
    """
    kept = checkpoint.kept()
    stacks: dict[str, list[str]] = {}
    for name in checkpoint.tensors:
        expert = EXPERT.fullmatch(name)
        stacks.setdefault(f"{expert[1]}.{expert[3]}" if expert else name, []).append(name)
    scales, tensors = {}, dict(checkpoint.tensors)
    for stack, names in stacks.items():
        if all(name in kept for name in names):
            ordered = [kept[name] for name in sorted(names, key=_number)]
            scales[stack] = Scales(tuple(one.scale for one in ordered), tuple(one.input_scale for one in ordered))
            tensors |= {name: kept[name].blocks for name in names}
    return tensors, scales


def _number(name: str) -> int:
    expert = EXPERT.fullmatch(name)
    return int(expert[2]) if expert else 0


def with_scales(tensors: Sequence[tuple[Tensor, str]], scales: Mapping[str, Scales]) -> Iterator[Tensor]:
    """NVFP4 first, each with its scales after it, then all others; each comes with its name in the checkpoint."""
    kept = [(tensor, scales[original]) for tensor, original in tensors if tensor.type is Type.NVFP4]
    for tensor, own in kept:
        yield tensor
        for end, values in ((".scale", own.weights), (".input_scale", own.inputs)):
            if not np.allclose(values, 1, rtol=0 if len(values) == 1 else 1e-5, atol=ONE):
                yield constant(tensor.name.removesuffix(".weight") + end, np.array(values, np.float32))
    yield from (tensor for tensor, _ in tensors if tensor.type is not Type.NVFP4)


def on_its_lattice(tensor: Tensor) -> Tensor | None:
    """A matrix in blocks that give exactly its numbers; None where there are none. Reads it."""
    if tensor.type not in FLOATS or (type_ := lattice_type(tensor)) is None:
        return None

    def rows(start: int, stop: int) -> NDArray[Any]:
        blocks = exact_blocks(to_float32(tensor.rows(start, stop)), type_)
        if blocks is None:
            raise ModelRefused(
                f"the file of tensor {tensor.name!r} changed while it was read", next_step="convert it again"
            )
        return blocks

    return replace(tensor, type=type_, rows=rows)


def file_type(tensors: Iterable[Tensor]) -> LlamaFileType | None:
    """What a file with these tensors says of itself, if some are kept."""
    counts = Counter(tensor.type for tensor in tensors if tensor.type in FILE_TYPES)
    return FILE_TYPES[max(FILE_TYPES, key=lambda type_: counts[type_])] if counts else None


def counted(tensors: Sequence[Tensor]) -> tuple[dict[str, int], int]:
    """How many tensors are kept, by type, and of how many that are no vectors."""
    counts = Counter(tensor.type.name for tensor in tensors if tensor.type in FILE_TYPES)
    return dict(counts.most_common()), sum(len(tensor.shape) > 1 for tensor in tensors)
