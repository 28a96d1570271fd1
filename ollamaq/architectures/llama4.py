"""Llama 4 (of the multimodal one, the language model)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from gguf import MODEL_ARCH

from ollamaq.architectures.experts import ROUTED, routed, without_ffn
from ollamaq.architectures.family import HEADS, Config, Shape, key, with_row_order
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.transforms import transposed
from ollamaq.tensors import Tensor
from ollamaq.tokenizers.spec import GPT2_TOKENIZER


def halves(tensor: Tensor, config: Config) -> dict[str, Tensor]:
    """Columns of the checkpoint's stack: the first half of them is the gate."""
    matrices = transposed(tensor)
    gate, up = np.split(np.arange(matrices.n_rows).reshape(matrices.shape[:-1]), 2, axis=-1)
    return {"ffn_gate_exps": with_row_order(matrices, gate), "ffn_up_exps": with_row_order(matrices, up)}


def layer(config: Config, i: int) -> dict[str, Shape]:
    if (i + 1) % config["interleave_moe_layer_step"]:
        return {
            "ffn_gate": ("intermediate_size_mlp", "hidden_size"),
            "ffn_up": ("intermediate_size_mlp", "hidden_size"),
            "ffn_down": ("hidden_size", "intermediate_size_mlp"),
        }
    return {
        **ROUTED,
        "ffn_gate_shexp": ("expert_width", "hidden_size"),
        "ffn_up_shexp": ("expert_width", "hidden_size"),
        "ffn_down_shexp": ("hidden_size", "expert_width"),
    }


def without_window(config: Config) -> int | None:
    """0 where every layer sees everything; llama.cpp knows the usual window itself."""
    kinds = config.get("layer_types")
    return 0 if kinds and all(kind == "full_attention" for kind in kinds) else None


LLAMA4 = replace(
    LLAMA,
    arch=MODEL_ARCH.LLAMA4,
    classes=("Llama4ForConditionalGeneration", "Llama4ForCausalLM"),
    defaults={
        "vocab_size": 202048,
        "hidden_size": 5120,
        "intermediate_size": 8192,
        "intermediate_size_mlp": 16384,
        "num_hidden_layers": 48,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "num_local_experts": 16,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 1,
    },
    sizes={**HEADS, **routed("intermediate_size")},
    keys=(
        key("feed_forward_length", "intermediate_size_mlp"),
        *LLAMA.keys,
        key("interleave_moe_layer_step", "interleave_moe_layer_step"),
        key("expert_feed_forward_length", "intermediate_size"),
        key("attention.sliding_window", without_window),
    ),
    block=without_ffn(LLAMA.block),
    layer=layer,
    rearranged={},
    split={
        "experts.gate_up_proj": halves,
        "experts.down_proj": lambda tensor, config: {"ffn_down_exps": transposed(tensor)},
    },
    tokenizer=GPT2_TOKENIZER,
)
