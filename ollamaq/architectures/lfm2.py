"""LFM2: short convolutions, and attention in some layers; dense, or with experts after the first layers."""

from __future__ import annotations

from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.deepseek import DENSE
from ollamaq.architectures.experts import ROUTED, routed, stacked
from ollamaq.architectures.family import F32, HEADS, Config, Family, Shape, key
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.mamba import without_middle

ATTENTION: dict[str, Shape] = {
    **{name: LLAMA.block[name] for name in ("attn_q", "attn_k", "attn_v", "attn_output")},
    "attn_q_norm": ("head_width",),
    "attn_k_norm": ("head_width",),
}
CONVOLUTION: dict[str, Shape] = {
    "shortconv.in_proj": ("three_hidden", "hidden_size"),
    "shortconv.conv": ("hidden_size", 1, "conv_L_cache"),
    "shortconv.out_proj": ("hidden_size", "hidden_size"),
}


def has_attention(config: Config, i: int) -> bool:
    if "layer_types" in config:
        return bool(config["layer_types"][i] == "full_attention")
    return i in config.get("full_attn_idxs", range(config["num_hidden_layers"]))


def width(config: Config) -> int:
    """Of the network: two thirds of what the config says, rounded up, unless it says that it means what it says."""
    stated = int(config.get("block_ff_dim", config["intermediate_size"]))
    if not config.get("block_auto_adjust_ff_dim", True):
        return stated
    multiple = config["block_multiple_of"]
    return int(-(int(config["block_ffn_dim_multiplier"] * int(2 * stated / 3)) // -multiple) * multiple)


KV_HEADS = key(
    "attention.head_count_kv",
    lambda config: [
        config["num_key_value_heads"] if has_attention(config, i) else 0 for i in range(config["num_hidden_layers"])
    ],
)

LFM2 = Family(
    arch=MODEL_ARCH.LFM2,
    classes=("Lfm2ForCausalLM", "LFM2ForCausalLM"),
    defaults={
        "vocab_size": 65536,
        "hidden_size": 2560,
        "intermediate_size": 12288,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 128000,
        "norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "conv_L_cache": 3,
        "block_multiple_of": 256,
        "block_ffn_dim_multiplier": 1.0,
    },
    sizes={
        **HEADS,
        "head_width": lambda config: config["queries"] // config["num_attention_heads"],
        "three_hidden": lambda config: 3 * config["hidden_size"],
        "network": width,
    },
    keys=(
        KV_HEADS,
        key("vocab_size", "vocab_size"),
        key("shortconv.l_cache", "conv_L_cache"),
        key("attention.layer_norm_rms_epsilon", "norm_eps", type=F32),
        key("feed_forward_length", "network"),
    ),
    tensors={"token_embd": ("vocab_size", "hidden_size"), "token_embd_norm": ("hidden_size",)},
    block={
        "attn_norm": ("hidden_size",),
        "ffn_norm": ("hidden_size",),
        "ffn_gate": ("network", "hidden_size"),
        "ffn_up": ("network", "hidden_size"),
        "ffn_down": ("hidden_size", "network"),
    },
    layer=lambda config, i: ATTENTION if has_attention(config, i) else CONVOLUTION,
    rearranged={"shortconv.conv": without_middle},
)

LFM2_MOE = replace(
    LFM2,
    arch=MODEL_ARCH.LFM2MOE,
    classes=("Lfm2MoeForCausalLM",),
    defaults={},
    sizes={
        **{name: size for name, size in LFM2.sizes.items() if name != "network"},
        **routed("moe_intermediate_size"),
    },
    keys=(
        KV_HEADS,
        key("expert_feed_forward_length", "moe_intermediate_size"),
        key("leading_dense_block_count", "num_dense_layers"),
        key("expert_gating_func", lambda config: 2),
        key("vocab_size", "vocab_size"),
        key("shortconv.l_cache", "conv_L_cache"),
    ),
    block={"attn_norm": ("hidden_size",), "ffn_norm": ("hidden_size",)},
    layer=lambda config, i: {
        **LFM2.layer(config, i),
        **(DENSE if i < config["num_dense_layers"] else {**ROUTED, "exp_probs_b.bias": ("experts",)}),
    },
    renamed={
        ".expert_bias": ".expert_bias.bias",
        ".feed_forward.experts.": ".block_sparse_moe.experts.",  # a name that gguf-py knows
    },
    gathered=stacked("w1", "w2", "w3"),
)
