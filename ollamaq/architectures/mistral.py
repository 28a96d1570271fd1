"""Mistral (a llama to llama.cpp), Mistral 3 and Ministral 3; of Pixtral and Llava, the language model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gguf import MODEL_ARCH

from ollamaq.architectures.family import F32, Computed, Config, key
from ollamaq.architectures.llama import LLAMA

MISTRAL = replace(
    LLAMA,
    classes=("MistralForCausalLM",),
    defaults={
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
    },
)


def _of_ministral(name: str) -> Computed:
    """A rope setting that Ministral 3 must have, and Mistral 3 has not."""

    def value(config: Config) -> Any:
        return config["rope_parameters"][name] if config.get("model_type") == "ministral3" else None

    return value


MISTRAL3 = replace(
    MISTRAL,
    arch=MODEL_ARCH.MISTRAL3,
    classes=("Mistral3ForConditionalGeneration", "Ministral3ForCausalLM"),
    keys=(
        *MISTRAL.keys,
        key("rope.scaling.yarn_log_multiplier", _of_ministral("mscale_all_dim"), type=F32),
        key("attention.temperature_scale", _of_ministral("llama_4_scaling_beta"), type=F32),
    ),
)


def _of_its_kind(name: str) -> Computed:
    """Mistral's default where the language model is one, else Llama's."""

    def value(config: Config) -> Any:
        default = (MISTRAL if config.get("model_type") == "mistral" else LLAMA).defaults[name]
        return default(config) if callable(default) else default

    return value


LLAVA = replace(
    LLAMA,
    classes=("LlavaForConditionalGeneration",),
    defaults={
        **LLAMA.defaults,
        **{
            name: _of_its_kind(name) for name in ("intermediate_size", "num_key_value_heads", "max_position_embeddings")
        },
    },
)
