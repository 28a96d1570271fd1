"""ERNIE 4.5, dense and with experts."""

from __future__ import annotations

from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.experts import ROUTED, n_experts, routed, stacked, without_ffn
from ollamaq.architectures.family import HEADS, Config, Family, Shape, key
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.transforms import cut
from ollamaq.tokenizers.spec import ERNIE_TOKENIZER

ERNIE4_5 = Family(
    arch=MODEL_ARCH.ERNIE4_5,
    classes=("Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"),
    defaults={
        "vocab_size": 103424,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 18,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
    },
    sizes=HEADS,
    keys=(),
    tensors=LLAMA.tensors,
    block=LLAMA.block,
    optional=LLAMA.optional,
    renamed={"ernie.": "model."},
    split={
        "qkv_proj.weight": cut(attn_q="queries", attn_k="keys", attn_v="keys"),
        "up_gate_proj.weight": cut(ffn_gate="intermediate_size", ffn_up="intermediate_size"),
    },
    tokenizer=ERNIE_TOKENIZER,
)


def layer(config: Config, i: int) -> dict[str, Shape]:
    """Experts from one layer to another; the first layers are dense."""
    last = config.get("moe_layer_end_index", config["num_hidden_layers"] - 1)
    if (i + 1) % config["moe_layer_interval"] or not config["moe_layer_start_index"] <= i <= last:
        return {name: ERNIE4_5.block[name] for name in ("ffn_gate", "ffn_up", "ffn_down")}
    shared: dict[str, Shape] = {
        "ffn_gate_shexp": ("shared_width", "hidden_size"),
        "ffn_up_shexp": ("shared_width", "hidden_size"),
        "ffn_down_shexp": ("hidden_size", "shared_width"),
    }
    return {**ROUTED, "exp_probs_b.bias": (1, "experts"), **(shared if config["moe_num_shared_experts"] else {})}


ERNIE4_5_MOE = replace(
    ERNIE4_5,
    arch=MODEL_ARCH.ERNIE4_5_MOE,
    classes=("Ernie4_5_MoeForCausalLM",),
    defaults={
        "vocab_size": 103424,
        "hidden_size": 2560,
        "intermediate_size": 12288,
        "num_hidden_layers": 28,
        "num_attention_heads": 20,
        "num_key_value_heads": 4,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "moe_intermediate_size": 1536,
        "moe_k": 6,
        "moe_num_experts": 64,
        "moe_num_shared_experts": 2,
        "moe_layer_start_index": 1,
        "moe_layer_interval": 1,
    },
    sizes={
        **HEADS,
        **routed("moe_intermediate_size"),
        "shared_width": lambda config: config["moe_intermediate_size"] * max(config["moe_num_shared_experts"], 1),
    },
    keys=(
        key("expert_count", n_experts),
        key("expert_used_count", "moe_k"),
        key("interleave_moe_layer_step", "moe_layer_interval"),
        key("leading_dense_block_count", "moe_layer_start_index"),
        key("expert_feed_forward_length", "moe_intermediate_size"),
        key("expert_shared_count", "moe_num_shared_experts"),
        key(
            "expert_shared_feed_forward_length",
            lambda config: (
                config["intermediate_size"] // config["num_key_value_heads"]
                if config["moe_num_shared_experts"]
                else None
            ),
        ),
    ),
    block=without_ffn(ERNIE4_5.block),
    layer=layer,
    optional=("output", "exp_probs_b.bias"),
    gathered=stacked("gate_proj", "up_proj", "down_proj"),
    skipped=("model.mtp_block.", "model.mtp_emb_norm.", "model.mtp_hidden_norm.", "model.mtp_linear_proj."),
)
