"""GLM 4 of 0414, dense."""

from __future__ import annotations

from gguf import MODEL_ARCH

from ollamaq.architectures.family import HEADS, Family, head_width, key, rotary
from ollamaq.architectures.llama import LLAMA
from ollamaq.tokenizers.spec import GLM4_TOKENIZER

GLM4 = Family(
    arch=MODEL_ARCH.GLM4,
    classes=("Glm4ForCausalLM",),
    defaults={
        "vocab_size": 151552,
        "hidden_size": 4096,
        "intermediate_size": 13696,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1.5625e-7,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
    },
    sizes={**HEADS, "gate_and_up": lambda config: 2 * config["intermediate_size"]},
    keys=(key("rope.dimension_count", lambda config: int(head_width(config) * rotary(config))),),
    tensors=LLAMA.tensors,
    block={
        **{name: shape for name, shape in LLAMA.block.items() if name != "ffn_gate"},
        "ffn_up": ("gate_and_up", "hidden_size"),
        "post_attention_norm": ("hidden_size",),
        "post_ffw_norm": ("hidden_size",),
    },
    optional=LLAMA.optional,
    tokenizer=GLM4_TOKENIZER,
)
