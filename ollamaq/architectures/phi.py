"""Phi 1.5 and 2; Phi 3 with Phi 4, which is of its shape; and Phi 3.5 with experts."""

from __future__ import annotations

import math
from dataclasses import replace

from gguf import MODEL_ARCH, GGUFValueType

from ollamaq.architectures.experts import ROUTED, routed, stacked, without_ffn
from ollamaq.architectures.family import F32, FILE_TYPE, HEADS, Config, Family, key, ordered, rotary
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.transforms import longrope
from ollamaq.tokenizers.spec import PHI3_TOKENIZER


def rotated(config: Config) -> int:
    return int(rotary(config) * config["hidden_size"]) // int(config["num_attention_heads"])


PHI2 = Family(
    arch=MODEL_ARCH.PHI2,
    classes=("PhiForCausalLM",),
    defaults={
        "vocab_size": 51200,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "num_key_value_heads": lambda config: config["num_attention_heads"],
        "max_position_embeddings": 2048,
        "layer_norm_eps": 1e-5,
        "partial_rotary_factor": 0.5,
    },
    sizes=HEADS,
    common=(
        *ordered("context_length", "embedding_length"),
        key("feed_forward_length", lambda config: 4 * config["hidden_size"]),
        *ordered("block_count", "attention.head_count"),
        key("attention.head_count_kv", "num_attention_heads"),
        *ordered("attention.layer_norm_epsilon"),
        key("rope.dimension_count", rotated),
        FILE_TYPE,
        key("tokenizer.ggml.add_bos_token", lambda config: False, type=GGUFValueType.BOOL),
    ),
    keys=(),
    tensors={**LLAMA.tensors, "output_norm.bias": ("hidden_size",)},
    block={
        "attn_norm": ("hidden_size",),
        "attn_norm.bias": ("hidden_size",),
        "attn_q": ("queries", "hidden_size"),
        "attn_k": ("keys", "hidden_size"),
        "attn_v": ("keys", "hidden_size"),
        "attn_output": ("hidden_size", "queries"),
        "ffn_up": ("intermediate_size", "hidden_size"),
        "ffn_down": ("hidden_size", "intermediate_size"),
    },
)


def attention_factor(config: Config) -> float | None:
    """How much LongRoPE scales attention: by the context it was stretched to, over the one it was trained with."""
    rope = config["rope_parameters"]
    if not rope.get("long_factor"):
        return None
    trained = rope["original_max_position_embeddings"]
    stretched = config["max_position_embeddings"] / trained
    return math.sqrt(1 + math.log(stretched) / math.log(trained)) if stretched > 1 else 1.0


PHI3 = Family(
    arch=MODEL_ARCH.PHI3,
    classes=("Phi3ForCausalLM",),
    defaults={
        "vocab_size": 32064,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": lambda config: config["num_attention_heads"],
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 1.0,
    },
    sizes={
        **HEADS,
        "queries_keys_values": lambda config: config["queries"] + 2 * config["keys"],
        "gate_and_up": lambda config: 2 * config["intermediate_size"],
    },
    early=(key("rope.scaling.attn_factor", attention_factor, type=F32),),
    common=(
        *ordered("context_length"),
        key(
            "rope.scaling.original_context_length",
            lambda config: config["rope_parameters"]["original_max_position_embeddings"],
        ),
        *ordered(
            "embedding_length",
            "feed_forward_length",
            "block_count",
            "attention.head_count",
            "attention.head_count_kv",
            "attention.layer_norm_rms_epsilon",
        ),
        key("rope.dimension_count", rotated),
        *ordered("rope.freq_base"),
        FILE_TYPE,
        key("attention.sliding_window", "sliding_window", lambda config: 0),
    ),
    keys=(),
    tensors=LLAMA.tensors,
    block={
        "attn_norm": ("hidden_size",),
        "attn_qkv": ("queries_keys_values", "hidden_size"),
        "attn_output": ("hidden_size", "queries"),
        "ffn_norm": ("hidden_size",),
        "ffn_up": ("gate_and_up", "hidden_size"),
        "ffn_down": ("hidden_size", "intermediate_size"),
    },
    optional=("output",),
    extra=(longrope("long"), longrope("short")),
    tokenizer=PHI3_TOKENIZER,
)

PHIMOE = replace(
    PHI3,
    arch=MODEL_ARCH.PHIMOE,
    classes=("PhiMoEForCausalLM", "PhimoeForCausalLM"),
    defaults={
        "vocab_size": 32064,
        "hidden_size": 4096,
        "intermediate_size": 6400,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "num_local_experts": 16,
        "num_experts_per_tok": 2,
    },
    sizes={**HEADS, **routed("intermediate_size")},
    keys=(
        key("expert_used_count", "num_experts_per_tok"),
        key("expert_count", "num_local_experts"),
    ),
    tensors={**LLAMA.tensors, "output_norm.bias": ("hidden_size",)},
    block={
        **without_ffn(LLAMA.block),
        "attn_norm.bias": ("hidden_size",),
        "ffn_norm.bias": ("hidden_size",),
        **ROUTED,
    },
    gathered=stacked("w1", "w2", "w3"),
    tokenizer=PHI3_TOKENIZER,
)
