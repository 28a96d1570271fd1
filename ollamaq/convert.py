"""A checkpoint in GGUF's terms: metadata, names, order and types as llama.cpp's ``convert_hf_to_gguf.py`` has them."""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType, LlamaFileType
from numpy.typing import NDArray

from ollamaq.architectures import family_of
from ollamaq.architectures.family import COMMON, Config, Family, rope_keys
from ollamaq.architectures.general import general
from ollamaq.checkpoint import Checkpoint
from ollamaq.errors import ModelRefused
from ollamaq.gguf.model import Metadata, Model, Value
from ollamaq.tensors import Tensor, to_float32
from ollamaq.tokenizers import vocabulary

OUTTYPES = {
    "f32": (Type.F32, LlamaFileType.ALL_F32),
    "f16": (Type.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (Type.BF16, LlamaFileType.MOSTLY_BF16),
}
SKIPPED = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")
"""Buffers, not weights."""
MAX_SIZE = 1 << 31
"""Of any number of heads, tokens or columns."""
MAX_LAYERS = 1000


def native_outtype(checkpoint: Checkpoint) -> str:
    """The outtype that loses nothing: what most of the weights are stored in."""
    sizes: Counter[Type] = Counter()
    for tensor in checkpoint.tensors.values():
        sizes[tensor.type] += tensor.n_values
    return max((Type.BF16, Type.F16, Type.F32), key=lambda type_: sizes[type_]).name.lower()


def convert(checkpoint: Checkpoint, outtype: str, *, pre: str | None = None) -> Model:
    """The model in GGUF's terms; its tensors stay lazy.

    Args:
        checkpoint: an opened model directory.
        outtype: what matrices become: ``f32``, ``f16``, ``bf16``, or ``auto`` (the first matrix's; F32 becomes F16).
        pre: the pre-tokenizer, where it is not to be recognised.

    Raises:
        ModelRefused: the architecture or the tokenizer is not supported, or tensors are missing, unknown or misshapen.
        UsageError: llama.cpp knows no pre-tokenizer ``pre``.
    """
    where = str(checkpoint.path / "config.json")
    family = family_of(checkpoint.config, where)
    config = _complete(checkpoint, family, where)
    named = _named(checkpoint, family, config)
    type_, file_type = OUTTYPES[_auto(named) if outtype == "auto" else outtype]
    tensors = tuple(_typed(tensor, type_) for tensor in named)
    metadata = general(checkpoint, gguf.MODEL_ARCH_NAMES[family.arch], sum(tensor.n_values for tensor in tensors))
    metadata |= _architecture(family, config, file_type)
    metadata |= vocabulary(checkpoint, config["vocab_size"], pre=pre, llama=family.llama_vocabulary)
    for key, value in metadata.items():
        if not _fits(value):
            raise ModelRefused(
                f"{checkpoint.path} gives {key} the value {reprlib.repr(value.value)}, which GGUF cannot hold",
                next_step="mend the file that says so: a config, README.md or one of the tokenizer's",
            )
    return Model(metadata, tensors)


def _complete(checkpoint: Checkpoint, family: Family, where: str) -> dict[str, Any]:
    """The config with its class's defaults, the sizes computed from it, and rope settings under one name each."""
    config = {name: value for name, value in checkpoint.config.items() if value is not None}
    try:
        for name, given in (*family.defaults.items(), *family.sizes.items()):
            if name not in config:
                config[name] = given(config) if callable(given) else given
            if isinstance(given, float):
                continue
            if not isinstance(config[name], int) or not 0 < config[name] < MAX_SIZE:
                raise ModelRefused(f"{where} has {name} = {reprlib.repr(config[name])}", next_step="mend config.json")
        config |= rope_keys(config)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelRefused(f"{where} is damaged: {error!r}", next_step="save the model again") from error
    if config["num_hidden_layers"] > min(len(checkpoint.tensors), MAX_LAYERS):
        raise ModelRefused(
            f"{where} has num_hidden_layers = {config['num_hidden_layers']}, and there are"
            f" {len(checkpoint.tensors)} tensors",
            next_step="is config.json that of these weights?",
        )
    return config


def _named(checkpoint: Checkpoint, family: Family, config: Config) -> list[Tensor]:
    """Tensors under their GGUF names, in the converter's order: extra ones, then file by file, sorted by name.

    Every one has its place and shape in the family, and none is missing.
    """
    try:
        tensors = [tensor for extra in family.extra if (tensor := extra(config))]
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ModelRefused(
            f"{checkpoint.path / 'config.json'} has rope settings that cannot be used: {error}", next_step="mend them"
        ) from error
    names = gguf.get_tensor_name_map(family.arch, config["num_hidden_layers"])
    wanted = _shapes(family, config)
    found: dict[str, str] = {}
    for original, tensor in checkpoint.tensors.items():
        if original.endswith(SKIPPED):
            continue
        name = names.get_name(original, try_suffixes=(".weight", ".bias")) or ""
        expected = wanted.get(name.removesuffix(".bias") + ".weight" if name.endswith(".bias") else name)
        if expected is None or (name.endswith(".bias") and len(expected) < 2):
            raise ModelRefused(
                f"{checkpoint.path} has tensor {original!r}, which has no place in a {family.classes[0]}"
                f" of {config['num_hidden_layers']} layers",
                next_step="is config.json that of these weights? A LoRA adapter must be merged first",
            )
        if name in found:
            raise ModelRefused(
                f"{checkpoint.path} has {found[name]!r} and {original!r}, which are both {name!r}",
                next_step="save it again",
            )
        if name.endswith(".bias"):
            expected = expected[:1]
        if tensor.shape != expected:
            raise ModelRefused(
                f"{checkpoint.path} has tensor {original!r} of shape {list(tensor.shape)},"
                f" where config.json means {list(expected)}",
                next_step="is config.json that of these weights, and has the embedding a row for every token?",
            )
        found[name] = original
        placed = Tensor(name, tensor.type, tensor.shape, tensor.rows)
        rearrange = family.rearranged.get(name.split(".")[-2])
        tensors.append(rearrange(placed, config) if rearrange else placed)
    missing = [name for name in wanted if name not in found and name.split(".")[-2] not in family.optional]
    if missing:
        raise ModelRefused(
            f"{checkpoint.path} lacks {len(missing)} of the tensors of a {family.classes[0]}, such as {missing[0]!r}",
            next_step="is the checkpoint complete, and config.json its own?",
        )
    return tensors


def _shapes(family: Family, config: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor the family wants, with its shape."""
    sizes = {name: tuple(config[size] for size in shape) for name, shape in family.tensors.items()}
    block = {name: tuple(config[size] for size in shape) for name, shape in family.block.items()}
    for i in range(config["num_hidden_layers"]):
        sizes |= {f"blk.{i}.{name}": shape for name, shape in block.items()}
    return {f"{name}.weight": shape for name, shape in sizes.items()}


def _auto(tensors: list[Tensor]) -> str:
    first = next((t for t in tensors if len(t.shape) > 1 and t.type in (Type.BF16, Type.F16)), None)
    return first.type.name.lower() if first else "f16"


def _typed(tensor: Tensor, type_: Type) -> Tensor:
    """The tensor in the type the converter writes: F32 for vectors and norms, the outtype for matrices."""
    if len(tensor.shape) < 2 or tensor.name.endswith("_norm.weight") or not tensor.name.endswith(".weight"):
        type_ = Type.F32
    if tensor.type is type_:
        return tensor
    cast = CASTS[type_]
    return Tensor(tensor.name, type_, tensor.shape, lambda start, stop: cast(to_float32(tensor.rows(start, stop))))


def _to_f16(values: NDArray[np.float32]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):  # infinite then, which the quantizer reports with its place
        return values.astype(np.float16)


def _to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = values.view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 64, rounded).astype(np.uint16)


CASTS: dict[Type, Callable[[NDArray[np.float32]], NDArray[Any]]] = {
    Type.F32: lambda values: values,
    Type.F16: _to_f16,
    Type.BF16: _to_bf16,
}


def _architecture(family: Family, config: Config, file_type: LlamaFileType) -> Metadata:
    """The architecture's keys, and the two about types that stand among them."""

    def values(keys: tuple[Any, ...]) -> Metadata:
        arch = gguf.MODEL_ARCH_NAMES[family.arch]
        found = {f"{arch}.{entry.key}": Value(entry.type, entry.value(config)) for entry in keys}
        return {key: value for key, value in found.items() if value.value is not None}

    u32 = GGUFValueType.UINT32
    common = values(COMMON) | {"general.file_type": Value(u32, int(file_type))}
    return common | values(family.keys) | {"general.quantization_version": Value(u32, gguf.GGML_QUANT_VERSION)}


INTEGERS = {GGUFValueType.UINT32: (0, 2**32 - 1), GGUFValueType.INT32: (-(2**31), 2**31 - 1)}
LARGEST = float(np.finfo(np.float32).max)


def _fits(value: Value) -> bool:
    """Whether Python's value is one of its GGUF type."""
    kind = value.element or value.type
    items = value.value if value.type is GGUFValueType.ARRAY else [value.value]
    if kind is GGUFValueType.STRING:
        return all(isinstance(item, str) for item in items) and not SURROGATE.search("".join(items))
    if kind is GGUFValueType.FLOAT32:
        return all(isinstance(item, int | float) and -LARGEST <= item <= LARGEST for item in items)
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        return all(isinstance(item, int) and low <= item <= high for item in items)
    return kind is GGUFValueType.BOOL and all(isinstance(item, bool) for item in items)


SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character: JSON can say it, UTF-8 cannot."""
