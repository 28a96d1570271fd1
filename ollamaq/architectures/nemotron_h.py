"""Nemotron H: each layer is Mamba 2, attention, a network or experts, as a pattern says."""

from __future__ import annotations

from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.experts import as_it_is, stacked
from ollamaq.architectures.family import BOOL, F32, HEADS, Config, Shape, key
from ollamaq.architectures.granite_hybrid import ATTENTION, GRANITE_HYBRID
from ollamaq.architectures.mamba import SSM, ssm_sizes
from ollamaq.tokenizers.spec import GPT2_TOKENIZER

KINDS = {
    **dict.fromkeys(("M", "mamba", "linear_attention"), "ssm"),
    **dict.fromkeys(("*", "attention", "full_attention"), "attention"),
    **dict.fromkeys(("-", "mlp"), "network"),
    **dict.fromkeys(("E", "moe"), "experts"),
}
LAYERS: dict[str, dict[str, Shape]] = {
    "ssm": SSM,
    "attention": ATTENTION,
    "network": {
        "ffn_up": ("intermediate_size", "hidden_size"),
        "ffn_down": ("hidden_size", "intermediate_size"),
    },
    "experts": {
        "ffn_gate_inp": ("experts", "hidden_size"),
        "ffn_up_exps": ("experts", "expert_width", "hidden_size"),
        "ffn_down_exps": ("experts", "hidden_size", "expert_width"),
        "exp_probs_b.bias": ("experts",),
        "ffn_up_shexp": ("moe_shared_expert_intermediate_size", "hidden_size"),
        "ffn_down_shexp": ("hidden_size", "moe_shared_expert_intermediate_size"),
    },
}


def kinds(config: Config) -> list[str]:
    """Of all layers."""
    pattern = config.get("hybrid_override_pattern") or config["layers_block_type"]
    if len(pattern) != config.get("num_hidden_layers", len(pattern)):
        raise ValueError(f"a pattern of {len(pattern)} layers for {config['num_hidden_layers']}")
    return [KINDS[letter] for letter in pattern]


def with_experts(config: Config) -> bool:
    return "num_experts_per_tok" in config


def lengths(config: Config) -> list[int]:
    name, wanted = ("moe_intermediate_size", "experts") if with_experts(config) else ("intermediate_size", "network")
    return [config[name] if kind == wanted else 0 for kind in kinds(config)]


NEMOTRON_H = replace(
    GRANITE_HYBRID,
    arch=MODEL_ARCH.NEMOTRON_H,
    classes=("NemotronHForCausalLM",),
    sizes={
        "num_hidden_layers": lambda config: len(kinds(config)),
        **HEADS,
        **ssm_sizes(
            inner=lambda config: config["mamba_num_heads"] * config["mamba_head_dim"],
            heads=lambda config: config["mamba_num_heads"],
            state="ssm_state_size",
            groups="n_groups",
            kernel="conv_kernel",
        ),
        "experts": lambda config: config.get("n_routed_experts", 1),
        "expert_width": lambda config: config.get("moe_intermediate_size", 1),
    },
    keys=(
        key("context_length", lambda config: 2**20),  # without rope, it has no limit
        key("vocab_size", "vocab_size"),
        key("rope.dimension_count", lambda config: config["hidden_size"] // config["num_attention_heads"]),
        key("ssm.conv_kernel", "ssm_kernel"),
        key("ssm.state_size", "ssm_state"),
        key("ssm.group_count", "ssm_groups"),
        key("ssm.inner_size", "ssm_inner"),
        key("ssm.time_step_rank", "ssm_heads"),
        key(
            "attention.head_count_kv",
            lambda config: [config["num_key_value_heads"] if kind == "attention" else 0 for kind in kinds(config)],
        ),
        key("rope.scaling.finetuned", lambda config: False, type=BOOL),
        key("attention.key_length", "head_dim", "attention_head_dim"),
        key("attention.value_length", "head_dim", "attention_head_dim"),
        key("feed_forward_length", lengths),
        key("expert_feed_forward_length", "moe_intermediate_size"),
        key("expert_shared_feed_forward_length", "moe_shared_expert_intermediate_size"),
        key("expert_shared_count", "n_shared_experts"),
        key("expert_weights_norm", "norm_topk_prob", type=BOOL),
        key("expert_weights_scale", "routed_scaling_factor", type=F32),
        key("moe_latent_size", "moe_latent_size"),
    ),
    block={"attn_norm": ("hidden_size",)},
    layer=lambda config, i: LAYERS[kinds(config)[i]],
    optional=("output", "ssm_conv1d.bias"),
    split={
        "mixer.experts.up_proj.weight": as_it_is("ffn_up_exps"),
        "mixer.experts.down_proj.weight": as_it_is("ffn_down_exps"),
    },
    gathered=stacked("down_proj", "up_proj"),
    skipped=("mtp.",),
    variant=lambda config: MODEL_ARCH.NEMOTRON_H_MOE if with_experts(config) else None,
    tokenizer=GPT2_TOKENIZER,
)
