"""StableLM 3B and 2."""

from __future__ import annotations

from gguf import MODEL_ARCH, GGUFValueType

from ollamaq.architectures.family import FILE_TYPE, HEADS, Family, key, ordered, rotary
from ollamaq.architectures.llama import LLAMA

STABLELM = Family(
    arch=MODEL_ARCH.STABLELM,
    classes=("StableLmForCausalLM",),
    defaults={
        "vocab_size": 50304,
        "hidden_size": 2560,
        "intermediate_size": 6912,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
        "layer_norm_eps": 1e-5,
        "partial_rotary_factor": 0.25,
    },
    sizes=HEADS,
    common=(
        *ordered("context_length", "embedding_length", "block_count", "feed_forward_length"),
        key(
            "rope.dimension_count",
            lambda config: int(rotary(config) * (config["hidden_size"] // config["num_attention_heads"])),
        ),
        *ordered("attention.head_count", "attention.head_count_kv"),
        key("use_parallel_residual", "use_parallel_residual", lambda config: False, type=GGUFValueType.BOOL),
        *ordered("attention.layer_norm_epsilon"),
        FILE_TYPE,
    ),
    keys=(),
    tensors={**LLAMA.tensors, "output_norm.bias": ("hidden_size",)},
    block={**LLAMA.block, "attn_norm.bias": ("hidden_size",), "ffn_norm.bias": ("hidden_size",)},
    optional=("output", "ffn_norm", "ffn_norm.bias"),
)
