"""A checkpoint in GGUF's terms: metadata, names, order and types as llama.cpp's ``convert_hf_to_gguf.py`` gives them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType, LlamaFileType
from numpy.typing import NDArray

from ollamaq.architectures import family_of
from ollamaq.architectures.family import Config, Family
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
LIMITS = {"num_hidden_layers": 1 << 14, "head_dim": 1 << 14}
"""Far above any model: what is sized by these is sized before a tensor confirms them."""

SKIPPED = re.compile(r"\.attention\.masked_bias$|\.attention\.bias$|\.rotary_emb\.inv_freq$")
"""Buffers, not weights."""

logging.getLogger("gguf").setLevel(logging.ERROR)
logging.getLogger("metadata").setLevel(logging.ERROR)


def native_outtype(checkpoint: Checkpoint) -> str:
    """The outtype that loses nothing: what most of the weights are stored in."""
    sizes = dict.fromkeys((Type.BF16, Type.F16, Type.F32), 0)
    for tensor in checkpoint.tensors.values():
        sizes[tensor.type] += tensor.n_values
    return max(sizes, key=lambda type_: sizes[type_]).name.lower()


def convert(checkpoint: Checkpoint, outtype: str, *, pre: str | None = None) -> Model:
    """The model in GGUF's terms; its tensors stay lazy.

    Args:
        checkpoint: an opened model directory.
        outtype: what matrices become: ``f32``, ``f16``, ``bf16``, or ``auto`` (the first matrix's, F32 becomes F16).
        pre: the pre-tokenizer, where it is not to be recognised.

    Raises:
        ModelRefused: the architecture or the tokenizer is not supported, or tensors are missing, unknown or misshapen.
    """
    where = str(checkpoint.path / "config.json")
    family = family_of(checkpoint.config, where)
    config = _complete(checkpoint.config, family, where)
    named = _named(checkpoint, family, config)
    if outtype == "auto":
        outtype = _auto(named)
    type_, file_type = OUTTYPES[outtype]
    tensors = tuple(_typed(tensor, type_) for tensor in named)
    _check(tensors, family, config, checkpoint)
    return Model(_metadata(checkpoint, family, config, tensors, file_type, pre), tensors)


def _complete(config: dict[str, Any], family: Family, where: str) -> dict[str, Any]:
    """The config with its class's defaults, and rope settings in one place whichever version wrote them."""
    full = {name: value for name, value in config.items() if value is not None}
    try:
        for name, default in family.defaults.items():
            if name not in full:
                full[name] = default(full) if callable(default) else default
        rope = dict(full.get("rope_parameters") or full.get("rope_scaling") or {})
        rope.setdefault("rope_theta", full["rope_theta"])
        if "type" in rope:
            rope.setdefault("rope_type", rope["type"])
        full["rope_parameters"] = rope
        full["rope.freq_base"] = rope["rope_theta"]
        full |= {f"rope.scaling.{name}": value for name, value in _rope_scaling(rope).items() if value is not None}
        for entry in family.keys:
            value = next((full[name] for name in entry.names if name in full), None)
            wanted: tuple[type, ...] = (str,) if entry.type is GGUFValueType.STRING else (int, float)
            if entry.type is GGUFValueType.UINT32:
                wanted = (int,)
            if value is not None and (not isinstance(value, wanted) or (isinstance(value, int) and not 0 < value < 2**32)):
                raise ModelRefused(f"{where} has {entry.names[0]} = {value!r}", next_step="mend config.json")
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        raise ModelRefused(f"{where} is damaged: {error!r}", next_step="save the model again") from error
    for name, limit in LIMITS.items():
        if full[name] > limit or (name == "head_dim" and full[name] % 2):
            raise ModelRefused(f"{where} has {name} = {full[name]!r}", next_step="mend config.json")
    return full


def _rope_scaling(rope: dict[str, Any]) -> dict[str, Any]:
    kind, factor = rope.get("rope_type"), rope.get("factor")
    if kind == "linear" and factor is not None:
        return {"type": "linear", "factor": factor}
    if kind == "yarn" and factor is not None:
        return {
            "type": "yarn",
            "factor": factor,
            "original_context_length": rope["original_max_position_embeddings"],
            "yarn_ext_factor": rope.get("extrapolation_factor"),
            "yarn_attn_factor": rope.get("attention_factor", rope.get("attn_factor")),
            "yarn_beta_fast": rope.get("beta_fast"),
            "yarn_beta_slow": rope.get("beta_slow"),
        }
    return {"type": "longrope"} if kind in ("su", "longrope") else {}


def _named(checkpoint: Checkpoint, family: Family, config: Config) -> list[Tensor]:
    """Tensors under their GGUF names, in the order of the converter: extras, then shard by shard, by name."""
    names = gguf.get_tensor_name_map(family.arch, int(config["num_hidden_layers"]))
    tensors = [tensor for extra in family.extra if (tensor := extra(config))]
    for tensor in checkpoint.tensors.values():
        if SKIPPED.search(tensor.name):
            continue
        name = names.get_name(tensor.name, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ModelRefused(
                f"tensor {tensor.name!r} of {checkpoint.path} has no place in a {family.classes[0]}"
                f" of {config['num_hidden_layers']} layers",
                next_step="is config.json that of these weights? A LoRA adapter must be merged first",
            )
        rearrange = family.rearranged.get(name.rsplit(".", 2)[-2])
        placed = Tensor(name, tensor.type, tensor.shape, tensor.rows)
        tensors.append(rearrange(placed, config) if rearrange and _fits(placed, family, config) else placed)
    return tensors


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


def _shapes(family: Family, config: Config) -> dict[str, tuple[int, ...]]:
    """The shapes that config.json fixes."""
    width: int = config["hidden_size"]
    head: int = config["head_dim"]
    inner, q, kv = config["intermediate_size"], config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    return {
        "attn_norm": (width,),
        "ffn_norm": (width,),
        "output_norm": (width,),
        "token_embd": (config["vocab_size"], width),
        "output": (config["vocab_size"], width),
        "attn_q": (q, width),
        "attn_k": (kv, width),
        "attn_v": (kv, width),
        "attn_output": (width, q),
        "ffn_gate": (inner, width),
        "ffn_up": (inner, width),
        "ffn_down": (width, inner),
    }


def _fits(tensor: Tensor, family: Family, config: Config) -> bool:
    kind = tensor.name.rsplit(".", 2)[-2]
    expected = _shapes(family, config).get(kind)
    return expected is None or tensor.shape == (expected if tensor.name.endswith(".weight") else expected[:1])


def _check(tensors: tuple[Tensor, ...], family: Family, config: Config, checkpoint: Checkpoint) -> None:
    names = [tensor.name for tensor in tensors]
    blocks = [f"blk.{i}.{name}" for i in range(config["num_hidden_layers"]) for name in family.block]
    missing = {f"{name}.weight" for name in (*family.tensors, *blocks) if name not in family.optional} - set(names)
    if missing:
        raise ModelRefused(
            f"{checkpoint.path} lacks {len(missing)} tensors of a {family.classes[0]}, such as {min(missing)!r}",
            next_step="is the checkpoint complete, and config.json its own?",
        )
    for tensor in tensors:
        if not _fits(tensor, family, config):
            expected = _shapes(family, config)[tensor.name.rsplit(".", 2)[-2]]
            raise ModelRefused(
                f"tensor {tensor.name!r} of {checkpoint.path} has shape {list(tensor.shape)},"
                f" where config.json means {list(expected)}",
                next_step="is config.json that of these weights?",
            )
    if len(set(names)) != len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise ModelRefused(f"{checkpoint.path} has {double!r} twice, under two names", next_step="save the model again")


def _metadata(
    checkpoint: Checkpoint,
    family: Family,
    config: Config,
    tensors: tuple[Tensor, ...],
    file_type: LlamaFileType,
    pre: str | None,
) -> Metadata:
    arch = gguf.MODEL_ARCH_NAMES[family.arch]
    out = gguf.GGUFWriter(None, arch)  # keeps the keys; nothing is written by it
    out.add_type(gguf.GGUFType.MODEL)
    try:
        card = gguf.Metadata.load(None, checkpoint.path.resolve(), None, sum(tensor.n_values for tensor in tensors))
        repeat = checkpoint.generation_config.get("repetition_penalty")
        if card.sampling_penalty_repeat is None and repeat is not None:
            card.sampling_penalty_repeat = repeat
        card.name = card.name or checkpoint.path.resolve().name
        card.size_label = card.size_label or gguf.size_label(*_counts(tensors))
        card.set_gguf_meta_model(out)
    except Exception as error:  # a model card is free text: whatever it breaks in gguf-py must not break the conversion
        raise ModelRefused(
            f"{checkpoint.path} has a README.md or generation_config.json that cannot be used: {error!r}",
            next_step="mend its front matter, or take the file away",
        ) from error
    for entry in family.keys:
        name = next((name for name in entry.names if name in config), None)
        if name is not None:
            out.add_key_value(f"{arch}.{entry.key}", config[name], entry.type)
        if entry.key == "attention.value_length":
            out.add_file_type(file_type)
    out.add_quantization_version(gguf.GGML_QUANT_VERSION)
    vocabulary(checkpoint, int(config["vocab_size"]), out, pre=pre)
    return dict(_values(out))


def _counts(tensors: tuple[Tensor, ...]) -> tuple[int, int, int, int]:
    total = sum(tensor.n_values for tensor in tensors)
    return total, total, 0, 0


def _values(out: gguf.GGUFWriter) -> Iterator[tuple[str, Value]]:
    for key, kept in out.kv_data[0].items():
        element = None
        if kept.type is GGUFValueType.ARRAY:
            element = kept.sub_type or GGUFValueType.get_type(kept.value[0])
        value = int(kept.value) if kept.type is GGUFValueType.UINT32 else kept.value
        yield key, Value(kept.type, value, element)
