"""SmolLM 3: a llama, of which every fourth layer has no rope (llama.cpp knows that by itself)."""

from __future__ import annotations

from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.llama import LLAMA

SMOLLM3 = replace(
    LLAMA,
    arch=MODEL_ARCH.SMOLLM3,
    classes=("SmolLM3ForCausalLM",),
    defaults={
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 2000000.0,
    },
)
