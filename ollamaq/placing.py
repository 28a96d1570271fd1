"""Where each tensor of a checkpoint goes in a GGUF: its name, its shape, and that none is missing or too many."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gguf
from gguf import GGMLQuantizationType as Type

from ollamaq.architectures.family import Config, Family, Shape, with_row_order
from ollamaq.architectures.transforms import FLOATS, NotByRows
from ollamaq.checkpoint import Checkpoint
from ollamaq.errors import ModelRefused
from ollamaq.tensors import Tensor

SKIPPED = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")
"""Buffers, not weights."""
KEPT = (Type.MXFP4, Type.NVFP4)
READABLE = frozenset({*FLOATS, *KEPT})
MAX_SIZE = 1 << 31
"""Of any number of heads, tokens or columns."""


@dataclass(frozen=True)
class Placed:
    """A tensor under its GGUF name, and the name that it had in the checkpoint."""

    tensor: Tensor
    original: str = ""


def named(checkpoint: Checkpoint, family: Family, config: Config, stored: Mapping[str, Tensor]) -> dict[str, Placed]:
    """Tensors by their GGUF names, in the converter's order: extra ones, then file by file, sorted by name.

    Every one has its place and shape in the family, and none is missing. ``stored`` are the checkpoint's, some of them
    in blocks; where a family needs their values, these are taken instead.
    """
    try:
        tensors = {tensor.name: Placed(tensor) for extra in family.extra if (tensor := extra(config))}
        wanted = _shapes(family, config)
        given = list(family.gathered(stored.items(), config))
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise ModelRefused(
            f"{checkpoint.path / checkpoint.config_file} has settings that cannot be used: {error!r}",
            next_step="mend them",
        ) from error
    names = gguf.get_tensor_name_map(family.arch, config["blocks"])
    skipped = tuple(part.format_map(config) for part in family.skipped)

    def pieces(original: str, whole: Tensor) -> Iterator[Tensor]:
        for name, tensor in placed(original, whole, family, names, config).items():
            expected = wanted.get(name)
            if expected is None and name.endswith(".bias"):
                matrix = wanted.get(name.removesuffix(".bias") + ".weight", ())
                expected = matrix[:1] if len(matrix) > 1 else None
            if expected is None:
                raise ModelRefused(
                    f"{checkpoint.path} has tensor {original!r}, which has no place in a {family.classes[0]}"
                    f" of {config['blocks']} layers",
                    next_step="is config.json that of these weights? A LoRA adapter must be merged first",
                )
            if name in tensors:
                raise ModelRefused(
                    f"{checkpoint.path} has {tensors[name].original!r} and {original!r}, which are both {name!r}",
                    next_step="save it again",
                )
            if tensor.type not in READABLE:
                raise ModelRefused(
                    f"{checkpoint.path} has tensor {original!r} of integers: weights packed in an unknown way",
                    next_step="save the model in BF16",
                )
            if tensor.shape != expected:
                raise ModelRefused(
                    f"{checkpoint.path} has tensor {original!r} of shape {list(tensor.shape)},"
                    f" where config.json means {list(expected)}",
                    next_step="is config.json that of these weights, and has the embedding a row for every token?",
                )
            kind = kind_of(name)
            rearrange = family.rearranged.get(kind) or family.rearranged.get(kind.removesuffix(".bias"))
            try:
                yield rearrange(tensor, config) if rearrange else tensor
            except (LookupError, TypeError, ValueError, ArithmeticError) as error:
                raise ModelRefused(
                    f"{checkpoint.path / checkpoint.config_file} does not fit tensor {original!r}: {error!r}",
                    next_step="is config.json that of these weights?",
                ) from error

    for original, whole in given:
        if original.endswith((*SKIPPED, *family.scalars)) or family.foreign.search(original):
            continue
        if any(part in original for part in skipped):
            continue
        try:
            found = list(pieces(original, whole))
        except NotByRows as error:
            if original not in checkpoint.tensors:
                raise ModelRefused(
                    f"{checkpoint.path} has {original!r} in blocks that cannot be taken apart",
                    next_step="convert it with --outtype bf16",
                ) from error
            found = list(pieces(original, checkpoint.tensors[original]))
        tensors |= {tensor.name: Placed(tensor, original) for tensor in found}
    missing = [name for name in wanted if name not in tensors and kind_of(name) not in family.optional]
    if missing:
        raise ModelRefused(
            f"{checkpoint.path} lacks {len(missing)} of the tensors of a {family.classes[0]}, such as {missing[0]!r}",
            next_step="is the checkpoint complete, and config.json its own?",
        )
    return tensors


def kind_of(name: str) -> str:
    """A GGUF tensor's name as families have it: without its layer and ``.weight``."""
    return re.sub(r"^(v\.)?blk\.\d+\.", "", name).removesuffix(".weight")


def placed(
    original: str, tensor: Tensor, family: Family, names: gguf.TensorNameMap, config: Config
) -> dict[str, Tensor]:
    """What a checkpoint's tensor becomes, by GGUF name; an unknown one has none."""
    plain = original.replace("language_model.", "").replace("e_score_correction_bias", "e_score_correction.bias")
    for part, other in family.renamed.items():
        plain = plain.replace(part, other.format_map(config))
    split = next((split for end, split in family.split.items() if plain.endswith(end)), None)
    try:
        pieces = split(tensor, config) if split else None
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise ModelRefused(
            f"tensor {original!r} has shape {list(tensor.shape)}, where config.json means another",
            next_step="is config.json that of these weights?",
        ) from error
    if pieces is None:
        name = names.get_name(plain, try_suffixes=(".weight", ".bias")) or ""
        return {name: Tensor(name, tensor.type, tensor.shape, tensor.rows)}
    orders = [piece.size for piece in pieces.values() if not isinstance(piece, Tensor)]
    rows = tensor.n_rows if len(tensor.shape) > 1 else tensor.row
    if orders and rows != sum(orders):
        raise ModelRefused(
            f"tensor {original!r} has {rows} rows, where config.json means {sum(orders)}",
            next_step="is config.json that of these weights?",
        )
    layer = next((part for part in plain.split(".") if part.isdecimal()), "")
    found = {}
    for kind, piece in pieces.items():
        name = _full(f"{family.layers}.{layer}.{kind}" if layer else kind, family)
        taken = piece if isinstance(piece, Tensor) else with_row_order(tensor, piece)
        found[name] = Tensor(name, taken.type, taken.shape, taken.rows)
    return found


def _shapes(family: Family, config: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor the family wants, with its shape."""

    def sized(shape: Shape) -> tuple[int, ...]:
        return tuple(size_of(size if isinstance(size, int) else config[size]) for size in shape)

    sizes = {name: sized(shape) for name, shape in family.tensors.items()}
    for i in range(config["blocks"]):
        block = {**family.block, **family.layer(config, i)}
        sizes |= {f"{family.layers}.{i}.{name}": sized(shape) for name, shape in block.items()}
    return {_full(name, family): shape for name, shape in sizes.items()}


def size_of(value: Any) -> int:
    """The value, if it is a number of things.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, int) or not 0 < value < MAX_SIZE:
        raise ValueError(f"a size of {reprlib.repr(value)}")
    return value


def _full(name: str, family: Family) -> str:
    """A family's name for a tensor, with the ending that it has in a file."""
    return name if name.endswith((".bias", *family.bare)) else f"{name}.weight"
