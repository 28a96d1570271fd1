"""Qwen 2 and 3 with experts."""

from __future__ import annotations

from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.experts import EXPERT_KEYS, ROUTED, as_it_is, gate_and_up, routed, stacked, without_ffn
from ollamaq.architectures.family import HEADS, Shape
from ollamaq.architectures.qwen import QWEN2, QWEN3
from ollamaq.tokenizers.spec import GPT2_TOKENIZER

SHARED: dict[str, Shape] = {
    "ffn_gate_inp_shexp": (1, "hidden_size"),
    "ffn_gate_shexp": ("shared_expert_intermediate_size", "hidden_size"),
    "ffn_up_shexp": ("shared_expert_intermediate_size", "hidden_size"),
    "ffn_down_shexp": ("hidden_size", "shared_expert_intermediate_size"),
}

QWEN2MOE = replace(
    QWEN2,
    arch=MODEL_ARCH.QWEN2MOE,
    classes=("Qwen2MoeForCausalLM",),
    defaults={
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "num_experts_per_tok": 4,
        "num_experts": 60,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
    },
    sizes={**HEADS, **routed("moe_intermediate_size")},
    keys=EXPERT_KEYS,
    block={**without_ffn(QWEN2.block), **ROUTED, **SHARED},
    gathered=stacked("down_proj", "gate_proj", "up_proj"),
    split={
        "mlp.experts.gate_up_proj": gate_and_up("ffn_gate_exps", "ffn_up_exps"),
        "mlp.experts.down_proj": as_it_is("ffn_down_exps"),
    },
    tokenizer=GPT2_TOKENIZER,
)

QWEN3MOE = replace(
    QWEN2MOE,
    arch=MODEL_ARCH.QWEN3MOE,
    classes=("Qwen3MoeForCausalLM",),
    defaults={
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "num_experts_per_tok": 8,
        "num_experts": 128,
        "moe_intermediate_size": 768,
    },
    block={**without_ffn(QWEN3.block), **ROUTED},
)
