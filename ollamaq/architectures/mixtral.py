"""Mixtral: a llama, to llama.cpp too, with experts."""

from __future__ import annotations

from dataclasses import replace

from ollamaq.architectures.experts import ROUTED, routed, stacked, without_ffn
from ollamaq.architectures.family import HEADS
from ollamaq.architectures.llama import LLAMA

MIXTRAL = replace(
    LLAMA,
    classes=("MixtralForCausalLM",),
    defaults={
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    },
    sizes={**HEADS, **routed("intermediate_size")},
    block={**without_ffn(LLAMA.block), **ROUTED},
    gathered=stacked("w1", "w2", "w3"),
)
