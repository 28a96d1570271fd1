"""What a family's file says, and the keys that all families share.

Keys, their order and their aliases are those of llama.cpp's converter (``conversion/base.py``).
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFValueType
from numpy.typing import NDArray

from ollamaq.tensors import Tensor

Config = Mapping[str, Any]
Computed = Callable[[Config], Any]
U32, F32, STRING = GGUFValueType.UINT32, GGUFValueType.FLOAT32, GGUFValueType.STRING


@dataclass(frozen=True)
class Key:
    """A metadata key below the architecture's name, and where its value is: the first of ``names`` in the config."""

    key: str
    names: tuple[str, ...]
    type: GGUFValueType = U32

    def value(self, config: Config) -> Any:
        return next((config[name] for name in self.names if name in config), None)


def key(name: str, *names: str, type: GGUFValueType = U32) -> Key:
    return Key(name, names, type)


COMMON = (
    key("block_count", "n_layers", "num_hidden_layers", "n_layer", "num_layers"),
    key(
        "context_length",
        "max_position_embeddings",
        "n_ctx",
        "n_positions",
        "max_length",
        "max_sequence_length",
        "model_max_length",
    ),
    key("embedding_length", "hidden_size", "n_embd", "dim"),
    key(
        "feed_forward_length",
        "prefix_dense_intermediate_size",
        "dense_intermediate_size",
        "intermediate_size",
        "n_inner",
        "hidden_dim",
    ),
    key("attention.head_count", "num_attention_heads", "n_head", "n_heads"),
    key("attention.head_count_kv", "num_key_value_heads", "n_kv_heads"),
    key("rope.scaling.type", "rope.scaling.type", type=STRING),
    key("rope.scaling.factor", "rope.scaling.factor", type=F32),
    key("rope.scaling.original_context_length", "rope.scaling.original_context_length"),
    key("rope.scaling.yarn_ext_factor", "rope.scaling.yarn_ext_factor", type=F32),
    key("rope.scaling.yarn_attn_factor", "rope.scaling.yarn_attn_factor", type=F32),
    key("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_fast", type=F32),
    key("rope.scaling.yarn_beta_slow", "rope.scaling.yarn_beta_slow", type=F32),
    key("rope.freq_base", "rope.freq_base", type=F32),
    key("attention.layer_norm_rms_epsilon", "rms_norm_eps", "norm_eps", type=F32),
    key("attention.layer_norm_epsilon", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", type=F32),
    key("attention.key_length", "head_dim"),
    key("attention.value_length", "head_dim"),
)
"""Written before ``general.file_type``; a family's own keys come after it."""


NUMBERS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "rope_theta")


def rope_keys(config: Config) -> dict[str, Any]:
    """Rope settings under one name each, whichever version of transformers wrote the config.

    ``rope_parameters`` is completed from ``rope_scaling`` and ``rope_theta``; the keys of linear and YaRN scaling are
    those of ``COMMON``.

    Raises:
        KeyError, TypeError, ValueError: they are not what transformers would write.
    """
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    for name in ("rope_theta", "original_max_position_embeddings"):
        if name in config:
            rope.setdefault(name, config[name])
    for name in NUMBERS:
        if not isinstance(rope.get(name, 0), int | float):
            raise TypeError(f"rope's {name} is {reprlib.repr(rope[name])}")
    rope.setdefault("rope_type", rope.get("type"))
    kind, factor = rope["rope_type"], rope.get("factor")
    scaling: dict[str, Any] = {}
    if kind in ("linear", "yarn") and factor is not None:
        scaling = {"type": kind, "factor": factor}
    if scaling and kind == "yarn":
        scaling |= {
            "original_context_length": rope["original_max_position_embeddings"],
            "yarn_ext_factor": rope.get("extrapolation_factor"),
            "yarn_attn_factor": rope.get("attention_factor", rope.get("attn_factor")),
            "yarn_beta_fast": rope.get("beta_fast"),
            "yarn_beta_slow": rope.get("beta_slow"),
        }
    if kind in ("su", "longrope"):
        scaling = {"type": "longrope"}
    keys = {f"rope.scaling.{name}": value for name, value in scaling.items()} | {
        "rope.freq_base": rope.get("rope_theta")
    }
    return {"rope_parameters": rope} | {name: value for name, value in keys.items() if value is not None}


Rearrange = Callable[[Tensor, Config], Tensor]
Extra = Callable[[Config], Tensor | None]
Shape = tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """A family of models, as data.

    ``tensors`` (and ``block``, those of every layer) give each tensor's GGUF name, without ``blk.N.`` and ``.weight``,
    and its shape in names of the config; how a checkpoint calls it is known to gguf-py. A matrix may have a bias beside
    it. ``defaults`` are those of the class in transformers, which config.json may leave out; ``sizes`` are computed
    from the whole config. ``rearranged`` tensors have their rows in another order, ``extra`` ones are in no checkpoint.
    ``llama_vocabulary`` is for the keys that the converter writes for llamas alone (see ``tokenizers/vocabulary.py``).
    """

    arch: MODEL_ARCH
    classes: tuple[str, ...]
    defaults: Mapping[str, int | float | Computed]
    keys: tuple[Key, ...]
    tensors: Mapping[str, Shape]
    block: Mapping[str, Shape]
    sizes: Mapping[str, Computed] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    rearranged: Mapping[str, Rearrange] = field(default_factory=dict)
    extra: tuple[Extra, ...] = ()
    llama_vocabulary: bool = False


def rotary_pairs(heads: str) -> Rearrange:
    """Rows of each head from halves (Hugging Face's rotary layout) to pairs (llama.cpp's); ``heads`` counts them."""

    def rearrange(tensor: Tensor, config: Config) -> Tensor:
        order = np.arange(tensor.shape[0]).reshape(config[heads], 2, -1).swapaxes(1, 2).reshape(-1)
        return with_row_order(tensor, order)

    return rearrange


def with_row_order(tensor: Tensor, order: NDArray[np.intp]) -> Tensor:
    """The tensor with its rows (its values, if it has one axis) in another order, read a span at a time."""
    if len(tensor.shape) < 2:
        return Tensor(tensor.name, tensor.type, tensor.shape, lambda start, stop: tensor.rows(start, stop)[:, order])

    def rows(start: int, stop: int) -> NDArray[Any]:
        wanted = order[start:stop]
        low, high = int(wanted.min(initial=len(order))), int(wanted.max(initial=-1)) + 1
        return tensor.rows(min(low, high), high)[wanted - low]

    return Tensor(tensor.name, tensor.type, tensor.shape, rows)


def constant(name: str, values: NDArray[np.float32]) -> Tensor:
    """A tensor of one axis that is computed, not read."""
    return Tensor(name, GGMLQuantizationType.F32, values.shape, lambda start, stop: values.reshape(1, -1)[start:stop])
