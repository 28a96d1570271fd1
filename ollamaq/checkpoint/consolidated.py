"""Mistral's own format: ``params.json``, ``consolidated*.safetensors``, and ``tekken.json`` or a SentencePiece model.

Settings are turned into Hugging Face's as llama.cpp's converter turns them (``conversion/mistral.py``); tensors keep
their names, for which there are families (``architectures/consolidated.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ollamaq.errors import ModelRefused

PARAMS, CONSOLIDATED = "params.json", "consolidated.safetensors"
TEKKEN = "tekken.json"
DENSE, EXPERTS = "MistralConsolidated", "MistralConsolidatedExperts"
"""What stands for a class of transformers; the format names none."""
NAMES = {
    "dim": "hidden_size",
    "hidden_dim": "intermediate_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "norm_eps": "rms_norm_eps",
    "tied_embeddings": "tie_word_embeddings",
}
NAMES_OF_EXPERTS = {
    "num_experts": "n_routed_experts",
    "num_experts_per_tok": "num_experts_per_tok",
    "num_shared_experts": "n_shared_experts",
    "num_expert_groups": "n_group",
    "num_expert_groups_per_tok": "topk_group",
    "expert_hidden_dim": "moe_intermediate_size",
    "first_k_dense_replace": "first_k_dense_replace",
    "routed_scale": "routed_scaling_factor",
}
"""Below ``moe``."""
VERSIONED = re.compile(r"[^.]+\.model(\.v\d+(m\d+)?)?")
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def is_consolidated(path: Path) -> bool:
    """Whether a directory has a model in this format, and not in Hugging Face's too."""
    others = ("model*.safetensors", "pytorch_model*.bin")
    here = (path / PARAMS).exists() and any(path.glob("consolidated*.safetensors"))
    return here and not any(any(path.glob(pattern)) for pattern in others)


def as_hugging_face(params: dict[str, Any], where: Path) -> dict[str, Any]:
    """The settings of a params.json under Hugging Face's names.

    Raises:
        ModelRefused: it has experts, and not those of a Mistral Large 3; or it does not say how long a text may be.
    """
    config = {NAMES.get(name, name): value for name, value in params.items()} | {"architectures": [DENSE]}
    if isinstance(quantization := config.pop("quantization", None), dict):
        method = quantization.get("qformat_weight")
        config["quantization_config"] = {"quant_method": "fp8" if method == "fp8_e4m3" else method}
    if (experts := config.pop("moe", None)) is None:
        longest = config.get("max_position_embeddings") or config.get("max_seq_len")
        if longest is None:
            raise ModelRefused(
                f"{where} has no max_position_embeddings, without which llama.cpp loads no model",
                next_step='add how many tokens the model was trained for: "max_position_embeddings": 32768',
            )
        return config | {"max_position_embeddings": longest}
    if not isinstance(experts, dict) or "kv_lora_rank" not in config:
        raise ModelRefused(
            f"{where} is that of a Mixtral, whose experts are not read from this format",
            next_step="take the model's weights in the Hugging Face format: model.safetensors",
        )
    routed = {new: experts[name] for name, new in NAMES_OF_EXPERTS.items() if name in experts}
    fixed = {"architectures": [EXPERTS], "scoring_func": "softmax", "norm_topk_prob": True}
    return {"max_position_embeddings": 128_000} | config | routed | fixed


def vocabulary_file(names: Iterable[str]) -> str | None:
    """The tokenizer of the files in a directory, as mistral-common chooses it."""
    there = set(names)
    return TEKKEN if TEKKEN in there else max(filter(VERSIONED.fullmatch, there), default=None)
