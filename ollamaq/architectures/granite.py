"""Granite, dense: a llama with four scales."""

from __future__ import annotations

from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.family import COMMON, F32, Computed, key
from ollamaq.architectures.llama import LLAMA

SCALES = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}


def unless_zero(name: str) -> Computed:
    return lambda config: config.get(name) or None


GRANITE = replace(
    LLAMA,
    arch=MODEL_ARCH.GRANITE,
    classes=("GraniteForCausalLM",),
    defaults={
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": lambda config: config["num_attention_heads"],
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        **dict.fromkeys(SCALES.values(), 1.0),
    },
    common=tuple(entry for entry in COMMON if "head_dim" not in entry.sources),
    keys=(
        key("vocab_size", "vocab_size"),
        key("rope.dimension_count", lambda config: config["hidden_size"] // config["num_attention_heads"]),
        *(key(name, unless_zero(scale), type=F32) for name, scale in SCALES.items()),
    ),
)
