"""Falcon H1: attention and a state-space model side by side in every layer, with multipliers of muP training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from gguf import MODEL_ARCH

from ollamaq.architectures.family import F32, FILE_TYPE, HEADS, Config, Rearrange, key, ordered
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.mamba import DT, IN_GROUPS, MAMBA2, SSM, SSM_KEYS, ssm_sizes
from ollamaq.architectures.transforms import scaled
from ollamaq.tensors import Tensor
from ollamaq.tokenizers.spec import GPT2_TOKENIZER


def by(*names: str) -> Rearrange:
    """Multiplied by these numbers of the config, one after another."""
    return lambda tensor, config: scaled(tensor, *(float(config.get(name, 1.0)) for name in names))


def by_item(name: str, i: int) -> Rearrange:
    return lambda tensor, config: scaled(tensor, float(config[name][i]))


def by_parts(tensor: Tensor, config: Config) -> Tensor:
    """The state-space model's input: a multiplier for all, and one for each of its five parts."""
    shared = config["ssm_groups"] * config["ssm_state"]
    parts = (config["ssm_inner"], config["ssm_inner"], shared, shared, config["ssm_heads"])
    with np.errstate(over="ignore"):
        multipliers = np.repeat(np.array(config["ssm_multipliers"], np.float32), parts)
    return scaled(tensor, float(config["ssm_in_multiplier"]), multipliers)


FALCON_H1 = replace(
    MAMBA2,
    arch=MODEL_ARCH.FALCON_H1,
    classes=("FalconH1ForCausalLM",),
    sizes={
        **HEADS,
        **ssm_sizes(
            inner=lambda config: config["mamba_d_ssm"],
            heads=lambda config: config["mamba_d_ssm"] // config["mamba_d_head"],
            state="mamba_d_state",
            groups="mamba_n_groups",
            kernel="mamba_d_conv",
        ),
    },
    common=(
        *ordered("context_length", "embedding_length", "feed_forward_length", "attention.head_count", "block_count"),
        *SSM_KEYS,
        key("attention.layer_norm_rms_epsilon", "rms_norm_eps", lambda config: 1e-5, type=F32),
        FILE_TYPE,
        key("vocab_size", "vocab_size"),
        *ordered("attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.freq_base"),
    ),
    block={**LLAMA.block, **SSM},
    bare=(*MAMBA2.bare, ".ffn_norm"),  # so the converter and llama.cpp have it
    optional=("output", "ssm_conv1d.bias", "ssm_norm"),
    rearranged={
        **IN_GROUPS,
        "token_embd": by("embedding_multiplier"),
        "output": by("lm_head_multiplier"),
        "attn_q": by("attention_in_multiplier"),
        "attn_k": by("key_multiplier", "attention_in_multiplier"),
        "attn_v": by("attention_in_multiplier"),
        "attn_output": by("attention_out_multiplier"),
        "ffn_gate": by_item("mlp_multipliers", 0),
        "ffn_down": by_item("mlp_multipliers", 1),
        "ssm_in": by_parts,
        "ssm_out": by("ssm_out_multiplier"),
    },
    renamed=DT,
    tokenizer=GPT2_TOKENIZER,
)
