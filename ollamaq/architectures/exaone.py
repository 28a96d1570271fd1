"""EXAONE 4."""

from __future__ import annotations

from gguf import MODEL_ARCH

from ollamaq.architectures.family import HEADS, Config, Family, key, sliding
from ollamaq.architectures.llama import LLAMA, rope_freqs


def window_pattern(config: Config) -> list[bool] | None:
    """By ``layer_types``, a pattern such as ``LLLG``, or every so many layers a global one."""
    if config.get("sliding_window") is None:
        return None
    layers, pattern = range(config["num_hidden_layers"]), config.get("sliding_window_pattern", 4)
    if isinstance(pattern, str):
        return sliding(config) or [pattern[i % len(pattern)] == "L" for i in layers]
    return sliding(config) or [(i + 1) % pattern != 0 for i in layers]


EXAONE4 = Family(
    arch=MODEL_ARCH.EXAONE4,
    classes=("Exaone4ForCausalLM",),
    defaults={
        "vocab_size": 102400,
        "hidden_size": 4096,
        "intermediate_size": 16384,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
    },
    sizes={**HEADS, "head_width": lambda config: config["queries"] // config["num_attention_heads"]},
    keys=(
        key("vocab_size", "vocab_size"),
        key("attention.sliding_window", "sliding_window"),
        key("attention.sliding_window_pattern", window_pattern),
    ),
    tensors=LLAMA.tensors,
    block={
        **{name: shape for name, shape in LLAMA.block.items() if not name.endswith("_norm")},
        "attn_q_norm": ("head_width",),
        "attn_k_norm": ("head_width",),
        "post_attention_norm": ("hidden_size",),
        "post_ffw_norm": ("hidden_size",),
    },
    optional=LLAMA.optional,
    extra=(rope_freqs,),
)
