"""Apertus: a llama with xIELU, whose four numbers a layer are metadata in a GGUF."""

from __future__ import annotations

from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.family import F32, key
from ollamaq.architectures.llama import LLAMA

XIELU = {f"xielu.{name}": f".act_fn.{name}" for name in ("alpha_n", "alpha_p", "beta", "eps")}

APERTUS = replace(
    LLAMA,
    arch=MODEL_ARCH.APERTUS,
    classes=("ApertusForCausalLM",),
    defaults={
        "vocab_size": 131072,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": lambda config: config["num_attention_heads"],
        "max_position_embeddings": 65536,
        "rms_norm_eps": 1e-5,
        "rope_theta": 12000000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "original_max_position_embeddings": 8192,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        },
    },
    sizes={**LLAMA.sizes, "head_width": lambda config: config["queries"] // config["num_attention_heads"]},
    scalars=tuple(XIELU.values()),
    early=tuple(key(name, end, type=F32) for name, end in XIELU.items()),
    block={
        **{name: shape for name, shape in LLAMA.block.items() if name != "ffn_gate"},
        "attn_q_norm": ("head_width",),
        "attn_k_norm": ("head_width",),
    },
    rearranged={},
)
