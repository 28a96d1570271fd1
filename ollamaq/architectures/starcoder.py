"""StarCoder 2."""

from __future__ import annotations

from gguf import MODEL_ARCH

from ollamaq.architectures.family import HEADS, Family
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.phi import PHI2

STARCODER2 = Family(
    arch=MODEL_ARCH.STARCODER2,
    classes=("Starcoder2ForCausalLM",),
    defaults={
        "vocab_size": 49152,
        "hidden_size": 3072,
        "intermediate_size": 12288,
        "num_hidden_layers": 30,
        "num_attention_heads": 24,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "norm_epsilon": 1e-5,
        "rope_theta": 10000.0,
    },
    sizes=HEADS,
    keys=(),
    tensors=PHI2.tensors,
    block={**PHI2.block, "ffn_norm": ("hidden_size",), "ffn_norm.bias": ("hidden_size",)},
    optional=LLAMA.optional,
)
