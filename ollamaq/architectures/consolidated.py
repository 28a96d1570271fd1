"""Mistral's own format (``checkpoint/consolidated.py``), whose rotary rows are llama.cpp's already."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gguf import MODEL_ARCH

from ollamaq.architectures.deepseek import DEEPSEEK_V2
from ollamaq.architectures.family import F32, STRING, Computed, Config, Named, head_width, key
from ollamaq.architectures.llama import LLAMA
from ollamaq.checkpoint.consolidated import DENSE, EXPERTS
from ollamaq.tokenizers.spec import MISTRAL_TOKENIZER


def yarn(name: str) -> Computed:
    """A setting of YaRN, if the model has that."""
    return lambda config: config["yarn"][name] if "yarn" in config else None


def temperature(config: Config) -> Any:
    """How much attention sharpens with the length of the text."""
    return config["llama_4_scaling"]["beta"] if "llama_4_scaling" in config else None


def log_multiplier(config: Config) -> Any:
    return float(not config["yarn"]["apply_scale"]) if "yarn" in config else None


YARN = (
    key("rope.scaling.type", lambda config: "yarn" if "yarn" in config else None, type=STRING),
    key("rope.scaling.factor", yarn("factor"), type=F32),
    key("rope.scaling.yarn_beta_fast", yarn("beta"), type=F32),
    key("rope.scaling.yarn_beta_slow", yarn("alpha"), type=F32),
    key("rope.scaling.yarn_log_multiplier", log_multiplier, type=F32),
    key("rope.scaling.original_context_length", yarn("original_max_position_embeddings")),
    key("attention.temperature_scale", temperature, type=F32),
)

CONSOLIDATED = replace(
    LLAMA,
    classes=(DENSE,),
    variant=lambda config: MODEL_ARCH.MISTRAL3 if "llama_4_scaling" in config else None,
    defaults={"head_dim": lambda config: config["hidden_size"] // config["num_attention_heads"]},
    keys=(key("rope.dimension_count", head_width), *YARN),
    rearranged={},
    extra=(),
    tokenizer=MISTRAL_TOKENIZER,
)

USUAL = {".wkv_b.": ".kv_b_proj.", ".w1.": ".gate_proj.", ".w2.": ".down_proj.", ".w3.": ".up_proj."}


def _usual(name: str) -> str:
    """A tensor's name as DeepSeek's are, if it is one of those that are rearranged."""
    if ".experts." in name:
        name = f"model.{name.replace('.experts.', '.mlp.experts.')}"
    elif ".wkv_b." not in name:
        return name
    for part, other in USUAL.items():
        name = name.replace(part, other)
    return name


def gathered(tensors: Named, config: Config) -> Named:
    return DEEPSEEK_V2.gathered(((_usual(name), tensor) for name, tensor in tensors), config)


CONSOLIDATED_EXPERTS = replace(
    DEEPSEEK_V2,
    classes=(EXPERTS,),
    defaults={},
    keys=(
        *DEEPSEEK_V2.keys,
        *YARN,
        key("attention.temperature_length", yarn("original_max_position_embeddings")),
        key("rope.scaling.yarn_log_multiplier", lambda config: 0.1 if "yarn" in config else None, type=F32),
    ),
    gathered=gathered,
    tokenizer=MISTRAL_TOKENIZER,
)
"""Mistral Large 3: DeepSeek's attention and experts."""
