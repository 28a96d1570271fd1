"""Gemma 3n (of the multimodal one, the language model): alternating updates, and embeddings for every layer."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
from gguf import MODEL_ARCH
from numpy.typing import NDArray

from ollamaq.architectures.experts import stack, without_ffn
from ollamaq.architectures.family import HEADS, Config, Named, Shape, key, sliding
from ollamaq.architectures.gemma import GEMMA3
from ollamaq.architectures.transforms import of_values
from ollamaq.tensors import Tensor
from ollamaq.tokenizers.spec import GEMMA3_TOKENIZER

PROJECTION = re.compile(r"(.*altup_(?:unembed_)?projections)\.(\d)\.weight")


def stacked_projections(tensors: Named, config: Config) -> Iterator[tuple[str, Tensor]]:
    """The projections to and from each alternate state are one tensor, where the last of them stood."""
    found: dict[str, list[Tensor]] = {}
    for name, tensor in tensors:
        match = PROJECTION.fullmatch(name)
        if not match:
            yield name, tensor
            continue
        stored = found.setdefault(match[1], [])
        stored.append(tensor)
        if len(stored) == config["altup_num_inputs"] - 1:
            yield f"{match[1]}.weight", stack(stored)


def with_all_tokens(tensor: Tensor, config: Config) -> Tensor:
    """Zeros for the tokens of images and sound, which have no embeddings here."""
    n, total = tensor.n_rows, config["vocab_size"]

    def rows(start: int, stop: int) -> NDArray[Any]:
        read = tensor.rows(min(start, n), min(stop, n))
        return np.concatenate((read, np.zeros((stop - start - len(read), tensor.row), read.dtype)))

    return Tensor(tensor.name, of_values(tensor).type, (max(n, total), tensor.row), rows)


def width(config: Config, i: int) -> int:
    stated = config["intermediate_size"]
    return int(stated[i] if isinstance(stated, list) else stated)


def layer(config: Config, i: int) -> dict[str, Shape]:
    return {
        "ffn_gate": (width(config, i), "hidden_size"),
        "ffn_up": (width(config, i), "hidden_size"),
        "ffn_down": ("hidden_size", width(config, i)),
    }


def cutoffs(config: Config) -> list[float]:
    """How many deviations an activation must lie above the mean, for this share of them to be zero.

    In float32, through the inverse error function, as PyTorch has it.
    """
    shares = (np.float32(2) * np.float32(share) - np.float32(1) for share in config["activation_sparsity_pattern"])
    return [
        float(np.float32(NormalDist().inv_cdf((float(x) + 1) / 2) / math.sqrt(2)) * np.float32(math.sqrt(2)))
        if x > -1
        else -math.inf
        for x in shares
    ]


GEMMA3N = replace(
    GEMMA3,
    arch=MODEL_ARCH.GEMMA3N,
    classes=("Gemma3nForConditionalGeneration", "Gemma3nForCausalLM"),
    defaults={
        "vocab_size": 262400,
        "vocab_size_per_layer_input": 262144,
        "hidden_size": 2048,
        "hidden_size_per_layer_input": 256,
        "intermediate_size": [16384] * 35,
        "num_hidden_layers": 35,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "sliding_window": 512,
        "final_logit_softcapping": 30.0,
        "num_kv_shared_layers": 15,
        "altup_num_inputs": 4,
        "laurel_rank": 64,
        "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 7,
        "activation_sparsity_pattern": [0.95] * 10 + [0.0] * 25,
    },
    sizes={
        **HEADS,
        "per_layer_width": lambda config: config["num_hidden_layers"] * config["hidden_size_per_layer_input"],
        "altup_projections": lambda config: config["altup_num_inputs"] - 1,
        "altup_squared": lambda config: config["altup_num_inputs"] ** 2,
    },
    keys=(
        *GEMMA3.keys,
        key("altup.active_idx", lambda config: config.get("altup_active_idx", 0)),
        key("altup.num_inputs", "altup_num_inputs"),
        key("embedding_length_per_layer_input", "hidden_size_per_layer_input"),
        key("attention.shared_kv_layers", "num_kv_shared_layers"),
        key("activation_sparsity_scale", cutoffs),
        key("attention.sliding_window_pattern", sliding),
    ),
    tensors={
        **GEMMA3.tensors,
        "per_layer_token_embd": ("vocab_size_per_layer_input", "per_layer_width"),
        "per_layer_model_proj": ("per_layer_width", "hidden_size"),
        "per_layer_proj_norm": ("hidden_size_per_layer_input",),
        "altup_proj": ("altup_projections", "hidden_size", "hidden_size"),
        "altup_unembd_proj": ("altup_projections", "hidden_size", "hidden_size"),
    },
    block={
        **without_ffn(GEMMA3.block),
        "altup_correct_coef": ("altup_num_inputs", "altup_num_inputs"),
        "altup_correct_scale": ("hidden_size",),
        "altup_predict_coef": ("altup_squared", "altup_num_inputs"),
        "altup_router": ("altup_num_inputs", "hidden_size"),
        "altup_router_norm": ("hidden_size",),
        "laurel_l": ("laurel_rank", "hidden_size"),
        "laurel_r": ("hidden_size", "laurel_rank"),
        "laurel_post_norm": ("hidden_size",),
        "inp_gate": ("hidden_size_per_layer_input", "hidden_size"),
        "proj": ("hidden_size", "hidden_size_per_layer_input"),
        "post_norm": ("hidden_size",),
    },
    layer=layer,
    rearranged={"per_layer_token_embd": with_all_tokens},
    renamed={"correct_output_scale": "correct_output_scale.weight"},
    gathered=stacked_projections,
    tokenizer=GEMMA3_TOKENIZER,
)
