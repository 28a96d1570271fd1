"""DeepSeek V2 and V3: attention by latent vectors, and experts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from gguf import MODEL_ARCH

from ollamaq.architectures.experts import ROUTED, routed, stacked
from ollamaq.architectures.family import BOOL, F32, Config, Family, Shape, key, with_row_order
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.transforms import transposed
from ollamaq.tensors import Tensor


def keys_and_values(tensor: Tensor, config: Config) -> dict[str, Tensor]:
    """Each head's keys and values from the latent vector; the keys' matrix is multiplied from its other side."""
    places = np.arange(tensor.n_rows).reshape(config["num_key_value_heads"], -1)
    width = config["qk_nope_head_dim"]
    return {
        "attn_k_b": transposed(with_row_order(tensor, places[:, :width])),
        "attn_v_b": with_row_order(tensor, places[:, width:]),
    }


def unless_tied(tensor: Tensor, config: Config) -> dict[str, Tensor] | None:
    return {} if config.get("tie_word_embeddings") else None


def queries(config: Config) -> dict[str, Shape]:
    if "q_lora_rank" not in config:
        return {"attn_q": ("queries", "hidden_size")}
    return {
        "attn_q_a": ("q_lora_rank", "hidden_size"),
        "attn_q_a_norm": ("q_lora_rank",),
        "attn_q_b": ("queries", "q_lora_rank"),
    }


DENSE = {name: LLAMA.block[name] for name in ("ffn_gate", "ffn_up", "ffn_down")}
SHARED: dict[str, Shape] = {
    "ffn_gate_shexp": ("shared_width", "hidden_size"),
    "ffn_up_shexp": ("shared_width", "hidden_size"),
    "ffn_down_shexp": ("hidden_size", "shared_width"),
    "exp_probs_b.bias": ("experts",),
}


def is_dense(config: Config, i: int) -> bool:
    return bool(i < config.get("first_k_dense_replace", 0))


def log_multiplier(config: Config) -> Any:
    scale = config["rope_parameters"].get("mscale_all_dim")
    return None if scale is None else 0.1 * scale


DEEPSEEK_V2 = Family(
    arch=MODEL_ARCH.DEEPSEEK2,
    classes=("DeepseekV2ForCausalLM",),
    defaults={
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "moe_intermediate_size": 1407,
        "routed_scaling_factor": 1.0,
    },
    sizes={
        **routed("moe_intermediate_size"),
        "shared_width": lambda config: config["moe_intermediate_size"] * max(config.get("n_shared_experts", 0), 1),
        "queries": lambda config: (
            config["num_attention_heads"] * (config["qk_nope_head_dim"] + config["qk_rope_head_dim"])
        ),
        "values": lambda config: config["num_attention_heads"] * config["v_head_dim"],
        "latent": lambda config: config["kv_lora_rank"] + config["qk_rope_head_dim"],
        "full_key": lambda config: config["qk_nope_head_dim"] + config["qk_rope_head_dim"],
    },
    keys=(
        key("attention.head_count_kv", lambda config: 1),  # to llama.cpp, all heads share the latent vector
        key("leading_dense_block_count", lambda config: config.get("first_k_dense_replace", 0)),
        key("vocab_size", "vocab_size"),
        key("attention.q_lora_rank", "q_lora_rank"),
        key("attention.kv_lora_rank", "kv_lora_rank"),
        key("attention.key_length", "latent"),
        key("attention.value_length", "kv_lora_rank"),
        key("attention.key_length_mla", "full_key"),
        key("attention.value_length_mla", "v_head_dim"),
        key("expert_feed_forward_length", "moe_intermediate_size"),
        key("expert_shared_count", lambda config: config.get("n_shared_experts", 0)),
        key("expert_weights_scale", "routed_scaling_factor", type=F32),
        key("expert_weights_norm", lambda config: config.get("norm_topk_prob") or None, type=BOOL),
        key("rope.dimension_count", "qk_rope_head_dim"),
        key("rope.scaling.yarn_log_multiplier", log_multiplier, type=F32),
    ),
    tensors=LLAMA.tensors,
    block={
        "attn_norm": ("hidden_size",),
        "attn_kv_a_mqa": ("latent", "hidden_size"),
        "attn_kv_a_norm": ("kv_lora_rank",),
        "attn_k_b": ("num_attention_heads", "kv_lora_rank", "qk_nope_head_dim"),
        "attn_v_b": ("num_attention_heads", "v_head_dim", "kv_lora_rank"),
        "attn_output": ("hidden_size", "values"),
        "ffn_norm": ("hidden_size",),
    },
    layer=lambda config, i: {**queries(config), **(DENSE if is_dense(config, i) else {**ROUTED, **SHARED})},
    optional=("output", "exp_probs_b.bias"),
    split={"kv_b_proj.weight": keys_and_values, "lm_head.weight": unless_tied},
    gathered=stacked("down_proj", "gate_proj", "up_proj"),
    skipped=("model.layers.{num_hidden_layers}.",),  # predicts the token after the next
)

DEEPSEEK_V3 = replace(
    DEEPSEEK_V2,
    classes=("DeepseekV3ForCausalLM",),
    defaults={
        "vocab_size": 129280,
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "num_hidden_layers": 61,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "moe_intermediate_size": 2048,
        "first_k_dense_replace": 3,
        "routed_scaling_factor": 2.5,
        "norm_topk_prob": True,
    },
)
