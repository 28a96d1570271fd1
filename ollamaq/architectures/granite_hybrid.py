"""Granite 4: layers of attention among those of Mamba 2, with or without experts."""

from __future__ import annotations

from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.experts import ROUTED, as_it_is, gate_and_up, n_experts
from ollamaq.architectures.family import BOOL, Config, Shape, Split, key
from ollamaq.architectures.granite_moe import GRANITE_MOE, shared
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.mamba import DT, IN_GROUPS, SSM, ssm_sizes
from ollamaq.tokenizers.spec import GRANITE_HYBRID_TOKENIZER

ATTENTION = {name: LLAMA.block[name] for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
DENSE: dict[str, Shape] = {
    "ffn_gate": ("shared_intermediate_size", "hidden_size"),
    "ffn_up": ("shared_intermediate_size", "hidden_size"),
    "ffn_down": ("hidden_size", "shared_intermediate_size"),
}


def has_attention(config: Config, i: int) -> bool:
    if "layer_types" in config:
        return bool(config["layer_types"][i] == "attention")
    if config.get("attn_layer_indices"):
        return i in config["attn_layer_indices"]
    return bool(i % config["attn_layer_period"] == config["attn_layer_offset"])


def is_hybrid(config: Config) -> bool:
    return not all(has_attention(config, i) for i in range(config["num_hidden_layers"]))


def layer(config: Config, i: int) -> dict[str, Shape]:
    return {
        **(ATTENTION if has_attention(config, i) else SSM),
        **({**ROUTED, **shared(config)} if n_experts(config) else DENSE),
    }


def beside_experts(split: Split, otherwise: Split) -> Split:
    """Without experts, what would stand beside them is the layer's only network."""
    return lambda tensor, config: (split if n_experts(config) else otherwise)(tensor, config)


def context(config: Config) -> int:
    return 2**20 if is_hybrid(config) else int(config["max_position_embeddings"])  # without rope, it has no limit


GRANITE_HYBRID = replace(
    GRANITE_MOE,
    arch=MODEL_ARCH.GRANITE_HYBRID,
    classes=("GraniteMoeHybridForCausalLM",),
    defaults={},
    sizes={
        **GRANITE_MOE.sizes,
        **ssm_sizes(
            inner=lambda config: config["mamba_expand"] * config["hidden_size"],
            heads=lambda config: config["mamba_n_heads"],
            state="mamba_d_state",
            groups="mamba_n_groups",
            kernel="mamba_d_conv",
        ),
    },
    keys=(
        key("context_length", context),
        *GRANITE_MOE.keys,
        key("ssm.conv_kernel", "ssm_kernel"),
        key("ssm.state_size", "ssm_state"),
        key("ssm.group_count", "ssm_groups"),
        key("ssm.inner_size", "ssm_inner"),
        key("ssm.time_step_rank", "ssm_heads"),
        key("rope.dimension_count", "attn_rotary_emb"),
        key(
            "attention.head_count_kv",
            lambda config: [
                config["num_key_value_heads"] if has_attention(config, i) else 0
                for i in range(config["num_hidden_layers"])
            ],
        ),
        key("rope.scaling.finetuned", lambda config: not is_hybrid(config), type=BOOL),
    ),
    block={"attn_norm": ("hidden_size",), "ffn_norm": ("hidden_size",)},
    layer=layer,
    optional=("output", "ssm_conv1d.bias"),
    rearranged={**GRANITE_MOE.rearranged, **IN_GROUPS},
    renamed=DT,
    split={
        "block_sparse_moe.input_linear.weight": gate_and_up("ffn_gate_exps", "ffn_up_exps"),
        "shared_mlp.input_linear.weight": beside_experts(
            gate_and_up("ffn_gate_shexp", "ffn_up_shexp"), gate_and_up("ffn_gate", "ffn_up")
        ),
        "shared_mlp.output_linear.weight": beside_experts(as_it_is("ffn_down_shexp"), as_it_is("ffn_down")),
    },
    variant=lambda config: (
        None
        if is_hybrid(config)
        else (MODEL_ARCH.GRANITE_MOE if config.get("num_experts_per_tok") else MODEL_ARCH.GRANITE)
    ),
    tokenizer=GRANITE_HYBRID_TOKENIZER,
)
