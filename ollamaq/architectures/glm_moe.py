"""GLM 4.5 to 4.7, with experts."""

from __future__ import annotations

from collections.abc import Iterable

from gguf import MODEL_ARCH

from ollamaq.architectures.deepseek import DENSE, SHARED, is_dense
from ollamaq.architectures.experts import ROUTED, routed, stacked, without_ffn
from ollamaq.architectures.family import BOOL, F32, HEADS, Config, Family, Shape, head_width, key
from ollamaq.architectures.llama import LLAMA
from ollamaq.tokenizers.spec import GLM4_MOE_TOKENIZER

NEXT: dict[str, Shape] = {
    "nextn.eh_proj": ("hidden_size", "two_hidden"),
    "nextn.embed_tokens": ("vocab_size", "hidden_size"),
    "nextn.enorm": ("hidden_size",),
    "nextn.hnorm": ("hidden_size",),
    "nextn.shared_head_head": ("vocab_size", "hidden_size"),
    "nextn.shared_head_norm": ("hidden_size",),
}
"""What a layer that predicts the token after the next has besides."""


def with_next(config: Config, names: Iterable[str]) -> int:
    """Layers of the model, and those beyond it, which fine-tuning with transformers drops."""
    n = config["num_hidden_layers"]
    more = any(name.startswith(f"model.layers.{n}.") for name in names)
    return int(n + (config.get("num_nextn_predict_layers", 0) if more else 0))


def next_layers(config: Config) -> int | None:
    stated = config.get("num_nextn_predict_layers")
    return stated if stated == config["blocks"] - config["num_hidden_layers"] else None


def layer(config: Config, i: int) -> dict[str, Shape]:
    norms: dict[str, Shape] = {"attn_q_norm": ("head_dim",), "attn_k_norm": ("head_dim",)}
    return {
        **(norms if config.get("use_qk_norm") else {}),
        **(DENSE if is_dense(config, i) else {**ROUTED, **SHARED}),
        **(NEXT if i >= config["num_hidden_layers"] else {}),
    }


GLM4_MOE = Family(
    arch=MODEL_ARCH.GLM4_MOE,
    classes=("Glm4MoeForCausalLM",),
    defaults={
        "vocab_size": 151552,
        "hidden_size": 4096,
        "intermediate_size": 10944,
        "num_hidden_layers": 46,
        "num_attention_heads": 96,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "moe_intermediate_size": 1408,
        "num_experts_per_tok": 8,
        "n_group": 1,
        "topk_group": 1,
        "n_shared_experts": 1,
        "n_routed_experts": 128,
        "first_k_dense_replace": 1,
        "routed_scaling_factor": 1.0,
        "norm_topk_prob": True,
    },
    sizes={
        **HEADS,
        **routed("moe_intermediate_size"),
        "shared_width": lambda config: config["moe_intermediate_size"] * max(config["n_shared_experts"], 1),
        "two_hidden": lambda config: 2 * config["hidden_size"],
    },
    keys=(
        key(
            "rope.dimension_count",
            lambda config: int(head_width(config) * config["rope_parameters"].get("partial_rotary_factor", 0.5)),
        ),
        key("expert_feed_forward_length", "moe_intermediate_size"),
        key("expert_shared_count", "n_shared_experts"),
        key("leading_dense_block_count", "first_k_dense_replace"),
        key("expert_gating_func", lambda config: 2),
        key("expert_weights_scale", "routed_scaling_factor", type=F32),
        key("expert_weights_norm", "norm_topk_prob", type=BOOL),
        key("nextn_predict_layers", next_layers),
    ),
    tensors=LLAMA.tensors,
    block={
        **{name: shape for name, shape in without_ffn(LLAMA.block).items() if name != "ffn_norm"},
        "post_attention_norm": ("hidden_size",),
    },
    layer=layer,
    blocks=with_next,
    optional=("output", "exp_probs_b.bias"),
    gathered=stacked("down_proj", "gate_proj", "up_proj"),
    tokenizer=GLM4_MOE_TOKENIZER,
)
