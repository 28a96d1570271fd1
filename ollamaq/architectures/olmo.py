"""OLMo 1, 2 and 3."""

from __future__ import annotations

from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.family import F32, HEADS, Config, Family, key, sliding
from ollamaq.architectures.llama import LLAMA

OLMO = Family(
    arch=MODEL_ARCH.OLMO,
    classes=("OlmoForCausalLM",),
    defaults={
        "vocab_size": 50304,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": lambda config: config["num_attention_heads"],
        "max_position_embeddings": 2048,
        "rope_theta": 10000.0,
    },
    sizes=HEADS,
    keys=(
        key("attention.layer_norm_epsilon", lambda config: 1e-5, type=F32),
        key("attention.clamp_kqv", "clip_qkv", type=F32),
    ),
    tensors={name: shape for name, shape in LLAMA.tensors.items() if name != "output_norm"},
    block={name: shape for name, shape in LLAMA.block.items() if not name.endswith("_norm")},
    optional=("output",),
    rearranged=LLAMA.rearranged,
)


def window_pattern(config: Config) -> list[bool] | None:
    """Olmo 3's layers have sliding attention, but for every fourth."""
    if config.get("sliding_window") is None:
        return None
    return sliding(config) or [(i + 1) % 4 != 0 for i in range(config["num_hidden_layers"])]


OLMO2 = Family(
    arch=MODEL_ARCH.OLMO2,
    classes=("Olmo2ForCausalLM",),
    defaults={**OLMO.defaults, "rms_norm_eps": 1e-5},
    sizes=HEADS,
    keys=(
        key("attention.sliding_window", "sliding_window"),
        key("attention.sliding_window_pattern", window_pattern),
    ),
    tensors=LLAMA.tensors,
    block={
        **OLMO.block,
        "attn_q_norm": ("queries",),
        "attn_k_norm": ("keys",),
        "post_attention_norm": ("hidden_size",),
        "post_ffw_norm": ("hidden_size",),
    },
    optional=("output",),
)

OLMO3 = replace(OLMO2, classes=("Olmo3ForCausalLM",), defaults={**OLMO2.defaults, "sliding_window": 4096})
