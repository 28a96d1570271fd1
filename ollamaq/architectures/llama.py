"""Llama 1 to 3.3, and what was trained in its shape (SmolLM, TinyLlama, Yi, …)."""

from __future__ import annotations

import math

import numpy as np
from gguf import MODEL_ARCH

from ollamaq.architectures.family import HEADS, Config, Family, constant, head_width, key, rotary_pairs
from ollamaq.tensors import Tensor
from ollamaq.tokenizers.spec import LLAMA_TOKENIZER


def rope_freqs(config: Config) -> Tensor | None:
    """Llama 3.1's stretching of low frequencies, as a factor for each pair of a head, in float32 as PyTorch does it.

    Formula: ``apply_scaling`` of github.com/meta-llama/llama-models.
    """
    rope = config["rope_parameters"]
    if str(rope["rope_type"]).lower() != "llama3":
        return None
    context = rope.get("original_max_position_embeddings", 8192)
    with np.errstate(all="ignore"):  # senseless settings give factors that are not finite, and these are refused later
        factor, low, high = (
            np.float32(rope.get(name, default))
            for name, default in (("factor", 8.0), ("low_freq_factor", 1.0), ("high_freq_factor", 4.0))
        )
        width = head_width(config)
        exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
        powers = np.power(float(rope.get("rope_theta", 10000.0)), exponents.astype(np.float64))  # NumPy's powf varies
        frequencies = 1 / powers.astype(np.float32)
        wavelengths = 1 / frequencies * np.float32(2 * math.pi)
        smooth = (1 / wavelengths * np.float32(context) - low) / (high - low)
        ramp = 1 / ((1 - smooth) / factor + smooth)
        short, long = wavelengths < context / high, wavelengths > context / low
    return constant("rope_freqs.weight", np.select([short, long], [np.float32(1), factor], ramp).astype(np.float32))


LLAMA = Family(
    arch=MODEL_ARCH.LLAMA,
    classes=("LlamaForCausalLM", "LlamaModel"),
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
        "head_dim": lambda config: config["hidden_size"] // config["num_attention_heads"],
    },
    sizes=HEADS,
    keys=(key("vocab_size", "vocab_size"), key("rope.dimension_count", head_width)),
    tensors={
        "token_embd": ("vocab_size", "hidden_size"),
        "output_norm": ("hidden_size",),
        "output": ("vocab_size", "hidden_size"),
    },
    block={
        "attn_norm": ("hidden_size",),
        "attn_q": ("queries", "hidden_size"),
        "attn_k": ("keys", "hidden_size"),
        "attn_v": ("keys", "hidden_size"),
        "attn_output": ("hidden_size", "queries"),
        "ffn_norm": ("hidden_size",),
        "ffn_gate": ("intermediate_size", "hidden_size"),
        "ffn_up": ("intermediate_size", "hidden_size"),
        "ffn_down": ("hidden_size", "intermediate_size"),
    },
    optional=("output",),
    rearranged={"attn_q": rotary_pairs("num_attention_heads"), "attn_k": rotary_pairs("num_key_value_heads")},
    extra=(rope_freqs,),
    tokenizer=LLAMA_TOKENIZER,
)
