"""Falcon 7B, 40B and 180B, and GPT-NeoX (Pythia): queries, keys and values are one matrix, head by head."""

from __future__ import annotations

from gguf import MODEL_ARCH, GGUFValueType

from ollamaq.architectures.family import FILE_TYPE, HEADS, STRING, Config, Family, head_width, key, ordered
from ollamaq.architectures.phi import PHI2
from ollamaq.architectures.transforms import ungrouped


def key_heads(config: Config) -> int:
    """With ``multi_query`` there is one, unless the decoder is of the new kind, whatever ``num_kv_heads`` says."""
    if config.get("multi_query", True) and not config.get("new_decoder_architecture", False):
        return 1
    return int(config.get("num_kv_heads") or config["num_attention_heads"])


FALCON = Family(
    arch=MODEL_ARCH.FALCON,
    classes=("FalconForCausalLM",),
    defaults={
        "vocab_size": 65024,
        "hidden_size": 4544,
        "num_hidden_layers": 32,
        "num_attention_heads": 71,
        "layer_norm_epsilon": 1e-5,
        "ffn_hidden_size": lambda config: 4 * config["hidden_size"],
    },
    sizes={
        "key_heads": key_heads,
        "queries": lambda config: config["num_attention_heads"] * head_width(config),
        "queries_keys_values": lambda config: config["queries"] + 2 * config["key_heads"] * head_width(config),
    },
    common=(
        key("context_length", lambda config: 2048),
        key("tensor_data_layout", lambda config: "jploski", type=STRING),
        *ordered("embedding_length"),
        key("feed_forward_length", lambda config: 4 * config["hidden_size"]),
        *ordered("block_count", "attention.head_count"),
        key("attention.head_count_kv", "key_heads"),
        *ordered("attention.layer_norm_epsilon"),
        FILE_TYPE,
    ),
    keys=(),
    tensors=PHI2.tensors,
    block={
        "attn_norm": ("hidden_size",),
        "attn_norm.bias": ("hidden_size",),
        "attn_norm_2": ("hidden_size",),
        "attn_norm_2.bias": ("hidden_size",),
        "attn_qkv": ("queries_keys_values", "hidden_size"),
        "attn_output": ("hidden_size", "queries"),
        "ffn_up": ("ffn_hidden_size", "hidden_size"),
        "ffn_down": ("hidden_size", "ffn_hidden_size"),
    },
    optional=("output", "attn_norm_2", "attn_norm_2.bias"),
    rearranged={"attn_qkv": ungrouped("key_heads")},
)

GPTNEOX = Family(
    arch=MODEL_ARCH.GPTNEOX,
    classes=("GPTNeoXForCausalLM",),
    defaults={
        "vocab_size": 50432,
        "hidden_size": 6144,
        "intermediate_size": 24576,
        "num_hidden_layers": 44,
        "num_attention_heads": 64,
        "max_position_embeddings": 2048,
        "layer_norm_eps": 1e-5,
        "rotary_pct": 0.25,
    },
    sizes={**HEADS, "queries_keys_values": lambda config: 3 * config["hidden_size"]},
    common=(
        *ordered("context_length", "embedding_length", "block_count", "feed_forward_length"),
        key(
            "rope.dimension_count",
            lambda config: int(config["rotary_pct"] * (config["hidden_size"] // config["num_attention_heads"])),
        ),
        *ordered("attention.head_count"),
        key("use_parallel_residual", "use_parallel_residual", lambda config: True, type=GGUFValueType.BOOL),
        *ordered("attention.layer_norm_epsilon"),
    ),
    keys=(),
    tensors=PHI2.tensors,
    block={
        **{name: shape for name, shape in PHI2.block.items() if name not in ("attn_q", "attn_k", "attn_v")},
        "attn_qkv": ("queries_keys_values", "hidden_size"),
        "ffn_norm": ("hidden_size",),
        "ffn_norm.bias": ("hidden_size",),
    },
    optional=("output",),
    rearranged={"attn_qkv": ungrouped("num_attention_heads")},
)
