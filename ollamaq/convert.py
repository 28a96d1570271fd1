"""A checkpoint in GGUF's terms: metadata, names, order and types as llama.cpp's ``convert_hf_to_gguf.py`` has them."""

from __future__ import annotations

import math
import re
import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType, LlamaFileType
from numpy.typing import NDArray

from ollamaq.architectures import family_of
from ollamaq.architectures.family import ABSOLUTE, Config, Family, Key, rope_keys, text_config
from ollamaq.architectures.general import NONE, general
from ollamaq.architectures.transforms import FLOATS
from ollamaq.checkpoint import Checkpoint
from ollamaq.convert_kept import file_type, kept_blocks, on_its_lattice, with_scales
from ollamaq.errors import ModelRefused
from ollamaq.gguf.model import Metadata, Model, Value
from ollamaq.placing import KEPT, MAX_SIZE, kind_of, named, size_of
from ollamaq.tensors import Tensor, from_float32, to_float32
from ollamaq.tokenizers import vocabulary

OUTTYPES = {
    "f32": (Type.F32, LlamaFileType.ALL_F32),
    "f16": (Type.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (Type.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (Type.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "tq1_0": (Type.TQ1_0, LlamaFileType.MOSTLY_TQ1_0),
    "tq2_0": (Type.TQ2_0, LlamaFileType.MOSTLY_TQ2_0),
}
KEEP = "keep"
"""The outtype that leaves quantized weights as they are, where a type holds them; others are as with ``auto``."""
NOT_TERNARY = re.compile(r"((per_layer_)?token_embd|output|blk\.\d+\.(altup_router|laurel_[lr]))\.weight")
"""Matrices that the converter leaves in F16 where others get a ternary type."""
MAX_LAYERS = 1000


def native_outtype(checkpoint: Checkpoint) -> str:
    """The outtype that loses nothing: what most of the weights are stored in."""
    sizes: Counter[Type] = Counter()
    for tensor in checkpoint.tensors.values():
        sizes[tensor.type] += tensor.n_values
    return max((Type.BF16, Type.F16, Type.F32), key=lambda type_: sizes[type_]).name.lower()


def convert(
    checkpoint: Checkpoint, outtype: str, *, pre: str | None = None, overrides: Mapping[str, Any] = NONE
) -> Model:
    """The model in GGUF's terms; its tensors stay lazy.

    Args:
        checkpoint: an opened model directory.
        outtype: what matrices become: ``f32``, ``f16``, ``bf16``, ``q8_0``, ``tq1_0``, ``tq2_0``, ``auto`` (the
            first matrix's; F32 becomes F16), or ``keep``: weights that were quantized stay in a type that holds them.
        pre: the pre-tokenizer, where it is not to be recognised.
        overrides: ``general.*`` keys given by hand (`read_overrides`).

    Raises:
        ModelRefused: the architecture or the tokenizer is not supported, or tensors are missing, unknown or misshapen.
        UsageError: llama.cpp knows no pre-tokenizer ``pre``.
    """
    where = str(checkpoint.path / checkpoint.config_file)
    family, config = completed(checkpoint, family_of(checkpoint.config, where), where)
    model = converted(checkpoint, family, config, outtype, overrides)
    arch = gguf.MODEL_ARCH_NAMES[family.arch]
    words = vocabulary(checkpoint, config["vocab_size"], family.tokenizer, pre=pre, arch=arch)
    return checked(checkpoint, Model(model.metadata | words, model.tensors))


def converted(
    checkpoint: Checkpoint, family: Family, config: dict[str, Any], outtype: str, overrides: Mapping[str, Any]
) -> Model:
    """All of the model but its vocabulary, by its family and its completed config."""
    where = str(checkpoint.path / checkpoint.config_file)
    stored, scales = kept_blocks(checkpoint) if outtype == KEEP else (checkpoint.tensors, {})
    placed = named(checkpoint, family, config, stored)
    given = list(with_scales([(one.tensor, one.original) for one in placed.values()], scales))
    type_, said = OUTTYPES[_auto(given) if outtype in ("auto", KEEP) else outtype]
    own = [family.types.get(kind_of(tensor.name)) for tensor in given]
    tensors = tuple(_typed(*one, type_, keep=outtype == KEEP) for one in zip(given, own, strict=True))
    if type_ in FLOATS:
        said = file_type(tensors) or said
    described = general(checkpoint, gguf.MODEL_ARCH_NAMES[family.arch], tensors, overrides)
    early, keys = _architecture(family, config | {"general.file_type": int(said)}, where)
    return Model(dict(list(described.items())[:1]) | early | described | keys, tensors)


def checked(checkpoint: Checkpoint, model: Model) -> Model:
    """The model, if GGUF can hold its metadata.

    Raises:
        ModelRefused: it cannot.
    """
    for key, value in model.metadata.items():
        if not _fits(value):
            raise ModelRefused(
                f"{checkpoint.path} gives {key} the value {reprlib.repr(value.value)}, which GGUF cannot hold",
                next_step="mend the file that says so: a config, README.md or one of the tokenizer's",
            )
    return model


def completed(checkpoint: Checkpoint, family: Family, where: str) -> tuple[Family, dict[str, Any]]:
    """The config with its class's defaults, the sizes computed from it, and rope settings under one name each.

    The family then has the architecture of such a config.
    """
    stated = text_config(checkpoint.config)
    config = {name: value for name, value in stated.items() if value is not None} | {"pooling": checkpoint.pooling}
    try:
        for name, given in (*family.defaults.items(), *family.sizes.items()):
            if name not in config and (callable(given) or name not in stated):  # a null is no default, but computed
                config[name] = given(config) if callable(given) else given
            if isinstance(given, float | dict | str | list) or (name in stated and name not in config):
                continue
            if not isinstance(config[name], int) or not 0 < config[name] < MAX_SIZE:
                raise ModelRefused(f"{where} has {name} = {reprlib.repr(config[name])}", next_step="mend config.json")
        for name in ("num_hidden_layers", "vocab_size"):
            size_of(config[name])
        config |= family.facts(checkpoint)
        config["blocks"] = family.blocks(config, checkpoint.tensors)
        family = replace(family, arch=family.variant(config) or family.arch)
        config |= rope_keys(config)
        config |= {name: _scalars(checkpoint, name) for name in family.scalars}
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise ModelRefused(f"{where} is damaged: {error!r}", next_step="save the model again") from error
    if config["blocks"] > min(len(checkpoint.tensors), MAX_LAYERS):
        raise ModelRefused(
            f"{where} has num_hidden_layers = {config['num_hidden_layers']}, and there are"
            f" {len(checkpoint.tensors)} tensors",
            next_step="is config.json that of these weights?",
        )
    return family, config


def _scalars(checkpoint: Checkpoint, end: str) -> list[float] | None:
    """One number of each layer, from tensors whose names end so; None where there are none.

    Raises:
        ValueError: a tensor has more than one number.
    """
    found: dict[int, float] = {}
    for name, tensor in checkpoint.tensors.items():
        if name.endswith(end):
            if tensor.n_values != 1:
                raise ValueError(f"{name} has {tensor.n_values} values")
            layer = next((int(part) for part in name.split(".") if part.isdecimal()), 0)
            found[layer] = float(to_float32(tensor.rows(0, 1))[0, 0])
    return [found[layer] for layer in sorted(found)] or None


def _auto(tensors: list[Tensor]) -> str:
    first = next((t for t in tensors if len(t.shape) > 1 and t.type in (Type.BF16, Type.F16)), None)
    return first.type.name.lower() if first else "f16"


ALWAYS_F32 = tuple(
    f"{kind}.weight"
    for kind in (
        *("_norm", ".ffn_gate_inp", ".ffn_gate_inp_shexp", "position_embd", "token_types"),
        *(".ssm_conv1d", ".shortconv.conv", ".altup_correct_coef", ".altup_predict_coef"),
    )
)
"""Matrices that no tool of llama.cpp's makes smaller."""
OF_PATCHES = re.compile(r"\.patch_(embd|merger)\.weight")
"""What meets an image's patches: floats of 16 bits in a file of those, else of 32."""


def _typed(tensor: Tensor, own: Type | None, type_: Type, *, keep: bool) -> Tensor:
    """The tensor in the type the converter writes: F32 for vectors and norms, the outtype for matrices.

    ``own`` is the type of one that goes by none of these rules. MXFP4 stays, for it would only grow. Rows that blocks
    do not fill become F16. The blocks are gguf-py's, as the converter's are.
    """
    if tensor.type in KEPT:
        return tensor
    if own is not None:
        type_ = own
    elif len(tensor.shape) > 1 and OF_PATCHES.search(tensor.name):
        type_ = Type.F16 if type_ is Type.F16 else Type.F32
    elif len(tensor.shape) < 2 or not tensor.name.endswith(".weight") or tensor.name.endswith(ALWAYS_F32):
        type_ = Type.F32
    elif keep and (kept := on_its_lattice(tensor)):
        return kept
    elif (type_ not in FLOATS and tensor.row % gguf.GGML_QUANT_SIZES[type_][0]) or (
        type_ in (Type.TQ1_0, Type.TQ2_0) and NOT_TERNARY.fullmatch(tensor.name)
    ):
        type_ = Type.F16
    if tensor.type is type_:
        return tensor

    def rows(start: int, stop: int) -> NDArray[Any]:
        values = to_float32(tensor.rows(start, stop))
        return from_float32(values, type_) if type_ in FLOATS else gguf.quants.quantize(values, type_)

    return Tensor(tensor.name, type_, tensor.shape, rows)


def _architecture(family: Family, config: Config, where: str) -> tuple[Metadata, Metadata]:
    """The keys that precede all others, and the architecture's own with the two about types among them."""
    arch = gguf.MODEL_ARCH_NAMES[family.arch]

    def values(keys: tuple[Key, ...]) -> Metadata:
        found: Metadata = {}
        for entry in keys:
            value = entry.value(config)
            if value is None or value == []:
                continue
            name = entry.key if entry.key.startswith(ABSOLUTE) else f"{arch}.{entry.key}"
            items = GGUFValueType.get_type(value[0]) if isinstance(value, list) else None
            found[name] = Value(GGUFValueType.ARRAY if items else entry.type, value, items)
        return found

    version = Value(GGUFValueType.UINT32, gguf.GGML_QUANT_VERSION)
    try:
        return values(family.early), values((*family.common, *family.keys)) | {"general.quantization_version": version}
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise ModelRefused(
            f"{where} has settings that cannot be used: {error!r}", next_step="save the model again"
        ) from error


INTEGERS = {
    GGUFValueType.UINT8: (0, 255),
    GGUFValueType.UINT32: (0, 2**32 - 1),
    GGUFValueType.INT32: (-(2**31), 2**31 - 1),
}
LARGEST = float(np.finfo(np.float32).max)


def _fits(value: Value) -> bool:
    """Whether Python's value is one of its GGUF type."""
    kind = value.element or value.type
    items = value.value if value.type is GGUFValueType.ARRAY else [value.value]
    if kind is GGUFValueType.STRING:
        return all(isinstance(item, str) for item in items) and not SURROGATE.search("".join(items))
    if kind is GGUFValueType.FLOAT32:
        least = -math.inf if value.element else -LARGEST  # Gemma 3n has a list with nothing to cut off
        return all(isinstance(item, int | float) and least <= item <= LARGEST for item in items)
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        return all(isinstance(item, int) and low <= item <= high for item in items)
    return kind is GGUFValueType.BOOL and all(isinstance(item, bool) for item in items)


SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character: JSON can say it, UTF-8 cannot."""
