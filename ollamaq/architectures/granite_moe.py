"""Granite with experts, and with a network beside them that every token meets."""

from __future__ import annotations

from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.experts import ROUTED, gate_and_up, routed, without_ffn
from ollamaq.architectures.family import Config, Shape, key
from ollamaq.architectures.granite import GRANITE
from ollamaq.architectures.llama import LLAMA

SHARED_LENGTH = key("expert_shared_feed_forward_length", lambda config: config.get("shared_intermediate_size") or None)


def shared(config: Config) -> dict[str, Shape]:
    if not config.get("shared_intermediate_size"):
        return {}
    return {
        "ffn_gate_shexp": ("shared_intermediate_size", "hidden_size"),
        "ffn_up_shexp": ("shared_intermediate_size", "hidden_size"),
        "ffn_down_shexp": ("hidden_size", "shared_intermediate_size"),
    }


GRANITE_MOE = replace(
    GRANITE,
    arch=MODEL_ARCH.GRANITE_MOE,
    classes=("GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"),
    defaults={**GRANITE.defaults, "num_local_experts": 8, "num_experts_per_tok": 2},
    sizes={**GRANITE.sizes, **routed("intermediate_size")},
    keys=(*GRANITE.keys, SHARED_LENGTH),
    block={**without_ffn(LLAMA.block), **ROUTED},
    layer=lambda config, i: shared(config),
    split={
        "block_sparse_moe.input_linear.weight": gate_and_up("ffn_gate_exps", "ffn_up_exps"),
        "shared_mlp.input_linear.weight": gate_and_up("ffn_gate_shexp", "ffn_up_shexp"),
    },
)
