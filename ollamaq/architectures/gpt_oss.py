"""GPT-OSS, in BF16 or with the MXFP4 experts that it was published with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from gguf import MODEL_ARCH
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.architectures.experts import ROUTED, routed, without_ffn
from ollamaq.architectures.family import HEADS, Config, Named, key, with_row_order
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.transforms import transposed, with_columns
from ollamaq.tensors import Tensor
from ollamaq.tokenizers.spec import GPT2_TOKENIZER

BLOCK = 32
"""Weights that share a scale in MXFP4."""


def in_blocks(tensors: Named, config: Config) -> Iterator[tuple[str, Tensor]]:
    """``X_blocks`` and ``X_scales`` are the MXFP4 tensor ``X``, and stand in front of all others."""
    given = dict(tensors)
    packed = [name.removesuffix("_blocks") for name in given if name.endswith("_blocks")]
    for name in packed:
        blocks, scales = given.pop(f"{name}_blocks"), given.pop(f"{name}_scales", None)
        if scales and blocks.type is scales.type is Type.I8 and blocks.shape == (*scales.shape, BLOCK // 2):
            yield name, mxfp4(blocks, scales)
    yield from given.items()


def mxfp4(blocks: Tensor, scales: Tensor) -> Tensor:
    """The same weights in llama.cpp's order. Two lie in a byte there too, but the second is the one 16 further on."""
    per_row = scales.row

    def rows(start: int, stop: int) -> NDArray[Any]:
        pairs = blocks.rows(start * per_row, stop * per_row).reshape(stop - start, per_row, BLOCK // 2)
        codes = np.stack((pairs & 15, pairs >> 4), axis=-1).reshape(stop - start, per_row, BLOCK)
        halves = codes[:, :, : BLOCK // 2] | codes[:, :, BLOCK // 2 :] << 4
        scale = scales.rows(start, stop)[:, :, None]
        return np.concatenate((scale, halves), axis=-1).reshape(stop - start, per_row * (1 + BLOCK // 2))

    return Tensor(blocks.name, Type.MXFP4, (*scales.shape[:-1], per_row * BLOCK), rows)


def in_turn(tensor: Tensor, config: Config) -> dict[str, Tensor]:
    """Gate and up lie in turn, a row of one and a row of the other; in BF16 they are columns."""
    matrices = tensor if tensor.type is Type.MXFP4 else transposed(tensor)
    places = np.arange(matrices.n_rows).reshape(*matrices.shape[:-2], -1, 2)
    return {name: with_row_order(matrices, places[..., i]) for i, name in enumerate(("ffn_gate_exps", "ffn_up_exps"))}


def bias_in_turn(tensor: Tensor, config: Config) -> dict[str, Tensor]:
    places = np.arange(tensor.row).reshape(-1, 2)
    return {
        "ffn_gate_exps.bias": with_columns(tensor, places[:, 0]),
        "ffn_up_exps.bias": with_columns(tensor, places[:, 1]),
    }


GPT_OSS = replace(
    LLAMA,
    arch=MODEL_ARCH.GPT_OSS,
    classes=("GptOssForCausalLM",),
    defaults={
        "vocab_size": 201088,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_hidden_layers": 36,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "num_local_experts": 128,
        "num_experts_per_tok": 4,
        "sliding_window": 128,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 150000.0,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 32.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
            "original_max_position_embeddings": 4096,
        },
    },
    sizes={**HEADS, **routed("intermediate_size")},
    keys=(
        key("attention.sliding_window", "sliding_window"),
        key("expert_feed_forward_length", "intermediate_size"),
    ),
    block={
        **{name: shape for name, shape in without_ffn(LLAMA.block).items() if name != "ffn_norm"},
        "post_attention_norm": ("hidden_size",),
        "attn_sinks": ("num_attention_heads",),
        **ROUTED,
        "ffn_gate_exps.bias": ("experts", "expert_width"),
        "ffn_up_exps.bias": ("experts", "expert_width"),
        "ffn_down_exps.bias": ("experts", "hidden_size"),
    },
    rearranged={},
    renamed={".sinks": ".sinks.weight", "down_proj_bias": "down_proj.bias"},
    split={
        "experts.gate_up_proj": in_turn,
        "experts.gate_up_proj_bias": bias_in_turn,
        "experts.down_proj": lambda tensor, config: {
            "ffn_down_exps": tensor if tensor.type is Type.MXFP4 else transposed(tensor)
        },
    },
    gathered=in_blocks,
    extra=(),
    tokenizer=GPT2_TOKENIZER,
)
