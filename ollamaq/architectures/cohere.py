"""Cohere's Command R and R7B, and Aya."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from gguf import MODEL_ARCH

from ollamaq.architectures.family import F32, HEADS, STRING, Config, Family, head_width, key
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.transforms import Order
from ollamaq.errors import ModelRefused
from ollamaq.tensors import Tensor, to_float32

COHERE = Family(
    arch=MODEL_ARCH.COMMAND_R,
    classes=("CohereForCausalLM",),
    defaults={
        "vocab_size": 256000,
        "hidden_size": 8192,
        "intermediate_size": 22528,
        "num_hidden_layers": 40,
        "num_attention_heads": 64,
        "num_key_value_heads": lambda config: config["num_attention_heads"],
        "max_position_embeddings": 8192,
        "layer_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "logit_scale": 0.0625,
    },
    sizes={**HEADS, "head_width": head_width},
    keys=(
        key("context_length", "model_max_length"),
        key("logit_scale", "logit_scale", type=F32),
        key("rope.scaling.type", lambda config: "none", type=STRING),
    ),
    tensors=LLAMA.tensors,
    block={
        **{name: shape for name, shape in LLAMA.block.items() if name != "ffn_norm"},
        "attn_q_norm": ("num_attention_heads", "head_width"),
        "attn_k_norm": ("num_key_value_heads", "head_width"),
    },
    optional=("output", "attn_q_norm", "attn_k_norm"),
)


def zero_bias(tensor: Tensor, config: Config) -> dict[str, Order]:
    """llama.cpp knows no biases for this family, and its checkpoints have them as zeros."""
    if np.any(to_float32(tensor.rows(0, tensor.n_rows))):
        raise ModelRefused(
            f"tensor {tensor.name!r} is a bias that is not zero, and llama.cpp's {COHERE2.classes[0]} has none",
            next_step="train without attention_bias",
        )
    return {}


COHERE2 = replace(
    COHERE,
    arch=MODEL_ARCH.COHERE2,
    classes=("Cohere2ForCausalLM",),
    defaults={
        **COHERE.defaults,
        "sliding_window": 4096,
        "head_dim": lambda config: config["hidden_size"] // config["num_attention_heads"],
        "rotary_pct": 1.0,
    },
    keys=(
        key("logit_scale", "logit_scale", type=F32),
        key("attention.sliding_window", "sliding_window"),
        key("vocab_size", "vocab_size"),
        key(
            "rope.dimension_count",
            lambda config: int(config["rotary_pct"] * (config["hidden_size"] // config["num_attention_heads"])),
        ),
        key("rope.scaling.type", lambda config: "none", type=STRING),
    ),
    block={name: shape for name, shape in LLAMA.block.items() if name != "ffn_norm"},
    optional=("output",),
    split={".bias": zero_bias},
)
