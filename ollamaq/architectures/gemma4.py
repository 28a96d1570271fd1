"""Gemma 4, dense and with experts (of a multimodal one, the language model): heads of full attention are wider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from gguf import MODEL_ARCH

from ollamaq.architectures.experts import ROUTED, as_it_is
from ollamaq.architectures.family import Config, Shape, constant, key, sliding
from ollamaq.architectures.gemma import GEMMA3
from ollamaq.architectures.gemma3n import GEMMA3N
from ollamaq.tensors import Tensor
from ollamaq.tokenizers.spec import GEMMA4_TOKENIZER

UNROTATED = 1e30
"""A frequency divided by so much does not rotate."""


def is_sliding(config: Config, i: int) -> bool:
    return bool(config["layer_types"][i] == "sliding_attention")


def first_shared(config: Config) -> int:
    """From this layer on, keys and values are those of an earlier one."""
    return int(config["num_hidden_layers"] - config.get("num_kv_shared_layers", 0))


def kv_heads(config: Config, i: int) -> int:
    stated = None if is_sliding(config, i) else config.get("num_global_key_value_heads")
    return int(stated or config["num_key_value_heads"])


def inner(config: Config, i: int) -> int:
    wide = config.get("use_double_wide_mlp") and i >= first_shared(config)
    return int(config["intermediate_size"]) * (2 if wide else 1)


def layer(config: Config, i: int) -> dict[str, Shape]:
    head = int(config["head_dim"] if is_sliding(config, i) else config["global_head_dim"])
    queries, keys = config["num_attention_heads"] * head, kv_heads(config, i) * head
    shapes: dict[str, Shape] = {
        "attn_q": (queries, "hidden_size"),
        "attn_q_norm": (head,),
        "attn_output": ("hidden_size", queries),
        "ffn_gate": (inner(config, i), "hidden_size"),
        "ffn_up": (inner(config, i), "hidden_size"),
        "ffn_down": ("hidden_size", inner(config, i)),
    }
    if i < first_shared(config):
        shapes |= {"attn_k": (keys, "hidden_size"), "attn_k_norm": (head,)}
        if is_sliding(config, i) or not config.get("attention_k_eq_v"):
            shapes["attn_v"] = (keys, "hidden_size")
    shapes |= PER_LAYER if config.get("hidden_size_per_layer_input") else {}
    return shapes | (EXPERTS if config.get("enable_moe_block") else {})


EMBEDDINGS: dict[str, Shape] = {
    "per_layer_token_embd": ("per_layer_vocab", "per_layer_width"),
    "per_layer_model_proj": ("per_layer_width", "hidden_size"),
    "per_layer_proj_norm": ("per_layer",),
}
"""Of the smaller models alone."""
PER_LAYER: dict[str, Shape] = {name: GEMMA3N.block[name] for name in ("inp_gate", "proj", "post_norm")}
EXPERTS: dict[str, Shape] = {
    **{name: shape for name, shape in ROUTED.items() if name not in ("ffn_gate_exps", "ffn_up_exps")},
    "ffn_gate_inp.scale": ("hidden_size",),
    "ffn_gate_up_exps": ("experts", "gate_and_up", "hidden_size"),
    "ffn_down_exps.scale": ("experts",),
    **dict.fromkeys(("post_ffw_norm_1", "post_ffw_norm_2", "pre_ffw_norm_2"), ("hidden_size",)),
}
"""Beside the dense network, not in its place."""


def proportional(config: Config) -> Tensor:
    """Full attention rotates a part of each head's pairs, spread over the whole head."""
    pairs = int(config["global_head_dim"]) // 2
    rotated = int(config["global_head_dim"] * config["rope_parameters"]["partial_rotary_factor"] / 2)
    return constant("rope_freqs.weight", np.where(np.arange(pairs) < rotated, 1, UNROTATED).astype(np.float32))


def where_layers_differ(setting: str, of: Callable[[Config, int], int]) -> Callable[[Config], list[int] | None]:
    """A number for each layer, where the config has the setting by which they differ."""
    return lambda config: [of(config, i) for i in range(config["blocks"])] if config.get(setting) else None


GEMMA4 = replace(
    GEMMA3,
    arch=MODEL_ARCH.GEMMA4,
    classes=("Gemma4ForConditionalGeneration", "Gemma4ForCausalLM"),
    defaults={"head_dim": 256, "global_head_dim": 512, "rms_norm_eps": 1e-6},
    sizes={
        "per_layer": lambda config: config.get("hidden_size_per_layer_input") or 1,
        "per_layer_width": lambda config: config["num_hidden_layers"] * config["per_layer"],
        "per_layer_vocab": lambda config: config.get("vocab_size_per_layer_input") or config["vocab_size"],
        "experts": lambda config: config.get("num_experts") or 1,
        "expert_width": lambda config: config.get("moe_intermediate_size") or 1,
        "gate_and_up": lambda config: 2 * (config.get("moe_intermediate_size") or 1),
    },
    keys=(
        *GEMMA3.keys,
        key("attention.shared_kv_layers", "num_kv_shared_layers", lambda config: 0),
        key("embedding_length_per_layer_input", "hidden_size_per_layer_input", lambda config: 0),
        key("attention.sliding_window_pattern", sliding),
        key("attention.key_length", "global_head_dim"),
        key("attention.value_length", "global_head_dim"),
        key("attention.key_length_swa", "head_dim"),
        key("attention.value_length_swa", "head_dim"),
        key("expert_feed_forward_length", "expert_intermediate_size", "moe_intermediate_size"),
        key("feed_forward_length", where_layers_differ("use_double_wide_mlp", inner)),
        key("attention.head_count_kv", where_layers_differ("num_global_key_value_heads", kv_heads)),
        key("rope.dimension_count", "global_head_dim"),
        key("rope.dimension_count_swa", "head_dim"),
    ),
    tensors={**GEMMA3.tensors, **EMBEDDINGS},
    block={
        "attn_norm": ("hidden_size",),
        "post_attention_norm": ("hidden_size",),
        "ffn_norm": ("hidden_size",),
        "post_ffw_norm": ("hidden_size",),
        "layer_output_scale": (1,),
    },
    optional=("output", *EMBEDDINGS),
    layer=layer,
    renamed={"layer_scalar": "layer_scalar.weight"},
    rearranged={},
    split={
        "experts.gate_up_proj": as_it_is("ffn_gate_up_exps"),
        "experts.down_proj": as_it_is("ffn_down_exps"),
        "router.scale": as_it_is("ffn_gate_inp.scale"),
        "router.per_expert_scale": as_it_is("ffn_down_exps.scale"),
    },
    bare=(*GEMMA3.bare, ".scale"),
    extra=(proportional,),
    tokenizer=GEMMA4_TOKENIZER,
)
