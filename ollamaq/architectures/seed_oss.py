"""Seed-OSS."""

from __future__ import annotations

from gguf import MODEL_ARCH

from ollamaq.architectures.family import HEADS, Family
from ollamaq.architectures.llama import LLAMA

SEED_OSS = Family(
    arch=MODEL_ARCH.SEED_OSS,
    classes=("SeedOssForCausalLM",),
    defaults={
        "vocab_size": 155136,
        "hidden_size": 4096,
        "intermediate_size": 27648,
        "num_hidden_layers": 64,
        "num_attention_heads": 80,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 524288,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
    },
    sizes=HEADS,
    keys=(),
    tensors=LLAMA.tensors,
    block={
        **{name: shape for name, shape in LLAMA.block.items() if name != "ffn_norm"},
        "post_attention_norm": ("hidden_size",),
    },
    optional=LLAMA.optional,
)
