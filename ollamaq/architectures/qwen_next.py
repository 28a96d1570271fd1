"""Qwen3-Next and Qwen3.5: linear attention with attention in every fourth layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from gguf import MODEL_ARCH
from numpy.typing import NDArray

from ollamaq.architectures.deepseek import DENSE
from ollamaq.architectures.experts import EXPERT_KEYS, ROUTED, as_it_is, routed
from ollamaq.architectures.family import HEADS, Config, Rearrange, Shape, head_width, key, with_row_order
from ollamaq.architectures.glm_moe import NEXT
from ollamaq.architectures.mamba import DT, without_middle
from ollamaq.architectures.qwen_moe import QWEN2MOE, SHARED
from ollamaq.architectures.transforms import minus_exp, plus_one, with_columns
from ollamaq.tensors import Tensor
from ollamaq.tokenizers.spec import GPT2_TOKENIZER

NORMS = (
    *("attn_norm", "post_attention_norm", "attn_q_norm", "attn_k_norm", "output_norm"),
    *("nextn.enorm", "nextn.hnorm", "nextn.shared_head_norm"),
)
ATTENTION: dict[str, Shape] = {
    "attn_q": ("queries_and_gates", "hidden_size"),
    "attn_k": ("keys", "hidden_size"),
    "attn_v": ("keys", "hidden_size"),
    "attn_output": ("hidden_size", "queries"),
    "attn_q_norm": ("head_dim",),
    "attn_k_norm": ("head_dim",),
}
LINEAR: dict[str, Shape] = {
    "attn_qkv": ("linear_channels", "hidden_size"),
    "attn_gate": ("linear_values", "hidden_size"),
    "ssm_conv1d": ("linear_channels", 1, "linear_conv_kernel_dim"),
    "ssm_dt.bias": ("linear_num_value_heads",),
    "ssm_a": ("linear_num_value_heads",),
    "ssm_norm": ("linear_value_head_dim",),
    "ssm_out": ("hidden_size", "linear_values"),
}


def kinds(config: Config) -> list[str]:
    """Of the model's layers."""
    every = config.get("full_attention_interval", 4)
    usual = [("linear_attention", "full_attention")[(i + 1) % every == 0] for i in range(config["num_hidden_layers"])]
    return list(config.get("layer_types", usual))


def mixer(config: Config, i: int) -> dict[str, Shape]:
    """A layer's attention, of either sort; those beyond the model have the full one."""
    if i >= config["num_hidden_layers"]:
        names = ("nextn.eh_proj", "nextn.enorm", "nextn.hnorm", "nextn.shared_head_norm")
        return {**ATTENTION, **{name: NEXT[name] for name in names}}
    return ATTENTION if kinds(config)[i] == "full_attention" else LINEAR


def with_next(config: Config, names: Iterable[str]) -> int:
    """Layers of the model, and those that predict tokens further on, which fine-tuning may have dropped."""
    beyond = {name.split(".")[2] for name in names if name.startswith("mtp.layers.")}
    return int(config["num_hidden_layers"]) + len(beyond)


def recurrent(config: Config) -> list[bool]:
    n = config["blocks"] - config["num_hidden_layers"]
    return [kind == "linear_attention" for kind in kinds(config)] + [False] * n


def apart(tensor: Tensor, config: Config) -> dict[str, NDArray[np.intp]]:
    """Queries, keys, values and gates, which come head by head."""
    width, values = config["linear_key_head_dim"], config["linear_values"] // config["linear_num_key_heads"]
    heads = np.arange(tensor.n_rows).reshape(config["linear_num_key_heads"], -1)
    query, key_, value, gate = np.split(heads, np.cumsum((width, width, values)), axis=1)
    return {
        "attn_qkv": np.concatenate([part.reshape(-1) for part in (query, key_, value)]),
        "attn_gate": gate.reshape(-1),
    }


QWEN3_NEXT = replace(
    QWEN2MOE,
    arch=MODEL_ARCH.QWEN3NEXT,
    classes=("Qwen3NextForCausalLM",),
    defaults={
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.25,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "num_experts": 512,
        "num_experts_per_tok": 10,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
    },
    sizes={
        **HEADS,
        **routed("moe_intermediate_size"),
        "queries_and_gates": lambda config: 2 * config["queries"],
        "linear_values": lambda config: config["linear_value_head_dim"] * config["linear_num_value_heads"],
        "linear_channels": lambda config: (
            2 * config["linear_key_head_dim"] * config["linear_num_key_heads"] + config["linear_values"]
        ),
        "linear_logits": lambda config: 2 * config["linear_num_value_heads"],
        "two_hidden": lambda config: 2 * config["hidden_size"],
    },
    keys=(
        *EXPERT_KEYS,
        key("nextn_predict_layers", lambda config: config["blocks"] - config["num_hidden_layers"] or None),
        key("ssm.conv_kernel", "linear_conv_kernel_dim"),
        key("ssm.state_size", "linear_key_head_dim"),
        key("ssm.group_count", "linear_num_key_heads"),
        key("ssm.time_step_rank", "linear_num_value_heads"),
        key("ssm.inner_size", "linear_values"),
        key("attention.recurrent_layers", recurrent),
        key("full_attention_interval", "full_attention_interval", lambda config: 4),
        key(
            "rope.dimension_count",
            lambda config: int(head_width(config) * config["rope_parameters"].get("partial_rotary_factor", 0.25)),
        ),
    ),
    block={"attn_norm": ("hidden_size",), "post_attention_norm": ("hidden_size",), **ROUTED, **SHARED},
    layer=lambda config, i: (
        {**LINEAR, "ssm_ba": ("linear_logits", "hidden_size")} if mixer(config, i) is LINEAR else mixer(config, i)
    ),
    blocks=with_next,
    rearranged={**dict.fromkeys(NORMS, plus_one), "ssm_a": minus_exp, "ssm_conv1d": without_middle},
    split={
        **QWEN2MOE.split,
        "in_proj_qkvz.weight": apart,
        ".eh_proj.weight": as_it_is("nextn.eh_proj"),
        ".enorm.weight": as_it_is("nextn.enorm"),
        ".hnorm.weight": as_it_is("nextn.hnorm"),
        ".shared_head.norm.weight": as_it_is("nextn.shared_head_norm"),
    },
    renamed={
        **DT,
        "mtp.layers.0.": "model.layers.{num_hidden_layers}.",
        "mtp.fc.": "model.layers.{num_hidden_layers}.eh_proj.",
        "mtp.pre_fc_norm_embedding.": "model.layers.{num_hidden_layers}.enorm.",
        "mtp.pre_fc_norm_hidden.": "model.layers.{num_hidden_layers}.hnorm.",
        "mtp.norm.": "model.layers.{num_hidden_layers}.shared_head.norm.",
    },
    tokenizer=GPT2_TOKENIZER,
)


def tiled(config: Config, width: int, before: int = 0) -> NDArray[np.intp]:
    """Places of value heads of this width, after ``before`` places that stay.

    The checkpoint has the value heads of the first key head, then those of the second; llama.cpp, which repeats the
    keys over them, has the first value head of every key head, then the second of every one.
    """
    heads = np.arange(config["linear_num_value_heads"] * width).reshape(config["linear_num_key_heads"], -1, width)
    return np.concatenate((np.arange(before), before + heads.swapaxes(0, 1).reshape(-1)))


def values(tensor: Tensor, config: Config) -> Tensor:
    """All rows are value heads'."""
    return with_row_order(tensor, tiled(config, tensor.shape[0] // config["linear_num_value_heads"]))


def last_values(tensor: Tensor, config: Config) -> Tensor:
    """Rows of queries and keys, then those of value heads."""
    before = config["linear_channels"] - config["linear_values"]
    return with_row_order(tensor, tiled(config, config["linear_value_head_dim"], before))


def value_columns(tensor: Tensor, config: Config) -> Tensor:
    return with_columns(tensor, tiled(config, config["linear_value_head_dim"]))


REORDERED: dict[str, Rearrange] = {
    "attn_qkv": last_values,
    "attn_gate": values,
    "ssm_alpha": values,
    "ssm_beta": values,
    "ssm_dt.bias": values,
    "ssm_a": lambda tensor, config: values(minus_exp(tensor, config), config),
    "ssm_conv1d": last_values,
    "ssm_out": value_columns,
}

QWEN3_5 = replace(
    QWEN3_NEXT,
    arch=MODEL_ARCH.QWEN35,
    classes=("Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM"),
    defaults={},
    sizes={name: size for name, size in QWEN3_NEXT.sizes.items() if name not in ("experts", "expert_width")},
    keys=(
        *(
            key(entry.key, lambda config: recurrent(config) if "layer_types" in config else None)
            if entry.key == "attention.recurrent_layers"
            else entry
            for entry in QWEN3_NEXT.keys
        ),
        key(
            "rope.dimension_sections",
            lambda config: None if "mrope_section" in config["rope_parameters"] else [11, 11, 10, 0],
        ),
    ),
    block={"attn_norm": ("hidden_size",), "post_attention_norm": ("hidden_size",), **DENSE},
    layer=lambda config, i: (
        {
            **LINEAR,
            "ssm_alpha": ("linear_num_value_heads", "hidden_size"),
            "ssm_beta": ("linear_num_value_heads", "hidden_size"),
        }
        if mixer(config, i) is LINEAR
        else mixer(config, i)
    ),
    rearranged={**QWEN3_NEXT.rearranged, **REORDERED},
    tokenizer=GPT2_TOKENIZER,
)

QWEN3_5_MOE = replace(
    QWEN3_5,
    arch=MODEL_ARCH.QWEN35MOE,
    classes=("Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"),
    sizes=QWEN3_NEXT.sizes,
    block=QWEN3_NEXT.block,
    tokenizer=GPT2_TOKENIZER,
)
