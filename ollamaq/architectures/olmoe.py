"""OLMoE: an OLMo 2 with experts in every layer."""

from __future__ import annotations

from gguf import MODEL_ARCH

from ollamaq.architectures.experts import ROUTED, routed, stacked, without_ffn
from ollamaq.architectures.family import F32, HEADS, Family, key
from ollamaq.architectures.llama import LLAMA

OLMOE = Family(
    arch=MODEL_ARCH.OLMOE,
    classes=("OlmoeForCausalLM",),
    defaults={
        "vocab_size": 50304,
        "hidden_size": 2048,
        "intermediate_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": lambda config: config["num_attention_heads"],
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "num_experts": 64,
        "num_experts_per_tok": 8,
    },
    sizes={**HEADS, **routed("intermediate_size")},
    keys=(key("attention.layer_norm_rms_epsilon", lambda config: 1e-5, type=F32),),
    tensors=LLAMA.tensors,
    block={**without_ffn(LLAMA.block), "attn_q_norm": ("queries",), "attn_k_norm": ("keys",), **ROUTED},
    optional=LLAMA.optional,
    gathered=stacked("down_proj", "gate_proj", "up_proj"),
)
