"""Llama 1 to 3.3, and what was trained in its shape (SmolLM, TinyLlama, Yi, …)."""

from __future__ import annotations

import math

import numpy as np
from gguf import MODEL_ARCH

from ollamaq.architectures.family import COMMON, Config, Family, constant, key, rotary_pairs
from ollamaq.tensors import Tensor


def head_dim(config: Config) -> int:
    return int(config["hidden_size"]) // int(config["num_attention_heads"])


def rope_freqs(config: Config) -> Tensor | None:
    """Llama 3.1's stretching of low frequencies (its ``apply_scaling``), as a factor for each pair of a head."""
    rope = config["rope_parameters"]
    if str(rope.get("rope_type", "")).lower() != "llama3":
        return None
    dim = config["head_dim"]
    factor, low, high = rope.get("factor", 8.0), rope.get("low_freq_factor", 1.0), rope.get("high_freq_factor", 4.0)
    context = rope.get("original_max_position_embeddings", 8192)
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    frequencies = np.float32(1) / np.power(np.float32(rope.get("rope_theta", 10000.0)), exponents)
    factors = np.ones(len(frequencies), np.float32)
    for i, frequency in enumerate(frequencies):
        wavelength = np.float32(2 * math.pi) / frequency
        if wavelength > context / low:
            factors[i] = factor
        elif wavelength >= context / high:
            smooth = (np.float32(context) / wavelength - np.float32(low)) / np.float32(high - low)
            factors[i] = np.float32(1) / ((np.float32(1) - smooth) / np.float32(factor) + smooth)
    return constant("rope_freqs.weight", factors)


LLAMA = Family(
    arch=MODEL_ARCH.LLAMA,
    classes=("LlamaForCausalLM",),
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
        "head_dim": head_dim,
    },
    keys=(*COMMON, key("vocab_size", "vocab_size"), key("rope.dimension_count", "head_dim")),
    tensors=("token_embd", "output_norm", "output"),
    block=(
        "attn_norm",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_norm",
        "ffn_gate",
        "ffn_up",
        "ffn_down",
    ),
    optional=("output",),
    rearranged={"attn_q": rotary_pairs("num_attention_heads"), "attn_k": rotary_pairs("num_key_value_heads")},
    extra=(rope_freqs,),
)
