"""What a family's file says, and the keys that all families share.

Keys, their order and their aliases are those of llama.cpp's converter (``conversion/base.py``).
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFValueType
from numpy.typing import NDArray

from ollamaq.checkpoint import Checkpoint
from ollamaq.tensors import Tensor
from ollamaq.tokenizers.spec import GPT2_TOKENIZER, TokenizerSpec

Config = Mapping[str, Any]
Computed = Callable[[Config], Any]
U32, F32, STRING, BOOL = GGUFValueType.UINT32, GGUFValueType.FLOAT32, GGUFValueType.STRING, GGUFValueType.BOOL


@dataclass(frozen=True)
class Key:
    """A metadata key, and where its value is: the first that there is of ``sources``, names in the config or functions.

    A list is written as an array of its items' type. A key stands below the architecture's name, unless it begins with
    one of ``ABSOLUTE``.
    """

    key: str
    sources: tuple[str | Computed, ...]
    type: GGUFValueType = U32

    def value(self, config: Config) -> Any:
        found = (source(config) if callable(source) else config.get(source) for source in self.sources)
        return next((value for value in found if value is not None), None)


ABSOLUTE = ("general.", "tokenizer.", "xielu.")


def key(name: str, *sources: str | Computed, type: GGUFValueType = U32) -> Key:
    return Key(name, sources, type)


FILE_TYPE = key("general.file_type", "general.file_type")
GATING = ("score_function", "scoring_func", "score_func", "moe_router_activation", "moe_router_activation_func")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def gating_function(config: Config) -> int | None:
    """What a router makes of its logits, as llama.cpp numbers it."""
    name = next((config[alias] for alias in (*GATING, "expert_selection_fn") if alias in config), None)
    return None if name is None else {"softmax": 1, "sigmoid": 2, "sqrtsoftplus": 4}[name]


def rope_sections(config: Config) -> list[int] | None:
    """How many pairs of a head turn with time, height, width and a fourth thing, in multimodal models."""
    sections = config["rope_parameters"].get("mrope_section")
    return None if sections is None else [*sections, 0, 0, 0, 0][:4]


COMMON = (
    key("block_count", "blocks"),
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
    key("attention.causal", lambda config: False if config.get("is_causal") is False else None, type=BOOL),
    key("rope.scaling.type", "rope.scaling.type", type=STRING),
    key("rope.scaling.factor", "rope.scaling.factor", type=F32),
    key("rope.scaling.original_context_length", "rope.scaling.original_context_length"),
    key("rope.scaling.yarn_ext_factor", "rope.scaling.yarn_ext_factor", type=F32),
    key("rope.scaling.yarn_attn_factor", "rope.scaling.yarn_attn_factor", type=F32),
    key("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_fast", type=F32),
    key("rope.scaling.yarn_beta_slow", "rope.scaling.yarn_beta_slow", type=F32),
    key("rope.dimension_sections", rope_sections),
    key("rope.freq_base", "rope.freq_base", type=F32),
    key("rope.freq_base_swa", "rope.freq_base_swa", type=F32),
    key("attention.layer_norm_rms_epsilon", "rms_norm_eps", "norm_eps", type=F32),
    key("attention.layer_norm_epsilon", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", type=F32),
    key("expert_count", *EXPERTS),
    key("expert_used_count", "num_experts_per_tok", "num_experts_per_token", "top_k_experts"),
    key("expert_group_count", "n_group"),
    key("expert_group_used_count", "topk_group"),
    key("expert_gating_func", gating_function),
    key("attention.key_length", "head_dim"),
    key("attention.value_length", "head_dim"),
    FILE_TYPE,
)
"""What most families write first; their own keys come after it, and a key that is there already keeps its place."""


def text_config(config: Config) -> Config:
    """The config of the language model: ``text_config`` of a multimodal one lies over the rest."""
    text = config.get("text_config")
    if not isinstance(text, dict):
        return config
    return {**config, **text, "architectures": text.get("architectures") or config.get("architectures")}


ROPE_NAMES = {
    "rope_theta": ("global_rope_theta", "rope_global_theta", "rope_theta_global", "rope_theta", "rotary_emb_base"),
    "partial_rotary_factor": ("partial_rotary_factor", "rope_pct", "rope_percent"),
    "original_max_position_embeddings": ("original_max_position_embeddings",),
}
"""Settings that older configs have beside ``rope_scaling``, by their name within ``rope_parameters``."""
LOCAL_THETA = ("local_rope_theta", "rope_local_theta", "rope_theta_local", "swa_rope_theta", "rope_local_base_freq")
NUMBERS = ("factor", "low_freq_factor", "high_freq_factor", *ROPE_NAMES)


def rope_keys(config: Config) -> dict[str, Any]:
    """Rope settings under one name each, whichever version of transformers wrote the config.

    ``rope_parameters``, those of full attention where sliding attention has its own, is completed from ``rope_scaling``
    and ``rope_theta``; the keys of linear and YaRN scaling are those of ``COMMON``.

    Raises:
        KeyError, TypeError, ValueError: they are not what transformers would write.
    """
    settings: dict[str, Any] = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope: dict[str, Any] = dict(settings.get("full_attention", settings))
    local: dict[str, Any] = dict(settings.get("sliding_attention") or {})
    if not {"full_attention", "sliding_attention"} & settings.keys():
        for name, aliases in ROPE_NAMES.items():
            if name not in rope and (alias := next((alias for alias in aliases if alias in config), None)):
                rope[name] = config[alias]
        local = {"rope_theta": next((config[alias] for alias in LOCAL_THETA if alias in config), None)}
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
        "rope.freq_base": rope.get("rope_theta"),
        "rope.freq_base_swa": local.get("rope_theta"),
    }
    return {"rope_parameters": rope} | {name: value for name, value in keys.items() if value is not None}


def ordered(*keys: str) -> tuple[Key, ...]:
    """Some of ``COMMON``, for families that write them in another order."""
    known = {entry.key: entry for entry in COMMON}
    return tuple(known[name] for name in keys)


def head_width(config: Config) -> int:
    """Many configs have no ``head_dim``, and then GGUF has none either."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def rotary(config: Config) -> float:
    """How much of a head is rotated, of 1."""
    return float(config["rope_parameters"].get("partial_rotary_factor", 1.0))


def sliding(config: Config) -> list[bool] | None:
    """Which layers have sliding attention, where the config says so."""
    types = config.get("layer_types")
    return [kind == "sliding_attention" for kind in types] if types is not None else None


HEADS: Mapping[str, Computed] = {
    "num_key_value_heads": lambda config: config["num_attention_heads"],
    "queries": lambda config: config["num_attention_heads"] * head_width(config),
    "keys": lambda config: config["num_key_value_heads"] * head_width(config),
}
"""``sizes`` of attention."""

NOT_TEXT = re.compile(
    r"^(mlp|vit\.|vpm\.|siglip2\.|conformer\.|merger\.|resampler\.|sound_encoder\.|sound_projection\.|speech_embeddings\.)"
    r"|visual\.|vision\.|audio\.|talker\.|vision_|audio_|token2wav\.|code2wav\.|projector\.|pre_mm_projector_norm"
    r"|image_newline|view_seperator|patch_embed|patch_merger\.|patch_merge_mlp\.|model\.connector\."
)
"""Tensors of a multimodal checkpoint that are no part of its language model."""

Rearrange = Callable[[Tensor, Config], Tensor]
Split = Callable[[Tensor, Config], Mapping[str, NDArray[np.intp]] | Mapping[str, Tensor] | None]
Named = Iterable[tuple[str, Tensor]]
Gather = Callable[[Named, Config], Named]
Extra = Callable[[Config], Tensor | None]
Shape = tuple[str | int, ...]


@dataclass(frozen=True)
class Family:
    """A family of models, as data.

    ``tensors`` (and ``block``, those of every layer) give each tensor's GGUF name, without ``blk.N.`` and ``.weight``,
    and its shape in names of the config; how a checkpoint calls it is known to gguf-py, after ``renamed`` parts of the
    name. A matrix may have a bias beside it; a vector's is named, as ``x.bias``. ``defaults`` are those of the class in
    transformers, which config.json may leave out; ``sizes`` are computed from the whole config. ``keys`` are written
    after ``common``, ``early`` ones in front of all others but the architecture.

    ``rearranged`` tensors have rows or values changed, ``extra`` ones are in no checkpoint. ``split`` has, by the end
    of a checkpoint's tensor name, the GGUF tensors that it becomes, with the rows each takes: none where it is left out
    or the tensors themselves (and None where it is a tensor like any other). ``scalars`` become lists in the config, an
    item a layer. ``gathered`` sees all tensors of the checkpoint first, and makes one of several, such as experts.

    ``blocks`` counts layers, with the checkpoint's names at hand: some have more, to predict tokens further on.
    ``layer`` has the tensors of layer ``i`` that not every layer has. ``variant`` is what llama.cpp calls a model of
    this config, where that is not ``arch``. ``skipped`` are parts of names that are left out; these and ``renamed`` may
    have sizes of the config in braces. ``bare`` tensors' names do not end in ``.weight``.
    ``foreign`` is found in the names of tensors of other parts of a multimodal model. ``layers`` is what GGUF calls
    them; ``types`` has tensors (of any layer) that are written in one type whatever the outtype.
    ``facts`` are added to the config, from what a directory has beside it.
    ``tokenizer`` says how the vocabulary is made (``tokenizers/spec.py``); most families leave it out.
    """

    arch: MODEL_ARCH
    classes: tuple[str, ...]
    defaults: Mapping[str, Any]
    keys: tuple[Key, ...]
    tensors: Mapping[str, Shape]
    block: Mapping[str, Shape]
    sizes: Mapping[str, Computed] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    rearranged: Mapping[str, Rearrange] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    split: Mapping[str, Split] = field(default_factory=dict)
    scalars: tuple[str, ...] = ()
    gathered: Gather = lambda tensors, config: tensors
    blocks: Callable[[Config, Iterable[str]], int] = lambda config, names: config["num_hidden_layers"]
    layer: Callable[[Config, int], Mapping[str, Shape]] = lambda config, i: {}
    skipped: tuple[str, ...] = ()
    foreign: re.Pattern[str] = NOT_TEXT
    layers: str = "blk"
    types: Mapping[str, GGMLQuantizationType] = field(default_factory=dict)
    variant: Callable[[Config], MODEL_ARCH | None] = lambda config: None
    bare: tuple[str, ...] = ("ssm_a", "ssm_d")
    extra: tuple[Extra, ...] = ()
    common: tuple[Key, ...] = COMMON
    early: tuple[Key, ...] = ()
    facts: Callable[[Checkpoint], Mapping[str, Any]] = lambda checkpoint: {}
    tokenizer: TokenizerSpec = GPT2_TOKENIZER


def rotary_pairs(heads: str) -> Rearrange:
    """Rows of each head from halves (Hugging Face's rotary layout) to pairs (llama.cpp's); ``heads`` counts them."""

    def rearrange(tensor: Tensor, config: Config) -> Tensor:
        order = np.arange(tensor.shape[0]).reshape(config[heads], 2, -1).swapaxes(1, 2).reshape(-1)
        return with_row_order(tensor, order)

    return rearrange


def with_row_order(tensor: Tensor, places: NDArray[np.intp]) -> Tensor:
    """The rows (values, if there is one axis) of these places, in that order; what lies far apart is read apart.

    ``places`` may have several axes, and then so does the tensor.
    """
    order = places.reshape(-1)
    if len(tensor.shape) < 2:
        return Tensor(tensor.name, tensor.type, (len(order),), lambda start, stop: tensor.rows(start, stop)[:, order])

    def rows(start: int, stop: int) -> NDArray[Any]:
        wanted = order[start:stop]
        if not len(wanted):
            return tensor.rows(0, 0)
        ordered = np.sort(wanted)
        spans = np.split(ordered, np.flatnonzero(np.diff(ordered) > FAR_APART) + 1)
        read = [tensor.rows(int(span[0]), int(span[-1]) + 1)[span - span[0]] for span in spans]
        return np.concatenate(read)[np.searchsorted(ordered, wanted)]

    return Tensor(tensor.name, tensor.type, (*places.shape, tensor.row), rows)


FAR_APART = 64
"""Rows: about a head's width. Reading on over so few costs less than another read."""


def constant(name: str, values: NDArray[np.float32]) -> Tensor:
    """A tensor of one axis that is computed, not read."""
    return Tensor(name, GGMLQuantizationType.F32, values.shape, lambda start, stop: values.reshape(1, -1)[start:stop])
