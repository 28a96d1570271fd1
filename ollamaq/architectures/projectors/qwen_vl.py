"""Qwen 2 and 2.5 VL's eyes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from gguf import MODEL_ARCH
from numpy.typing import NDArray

from ollamaq.architectures.family import BOOL, F32, Config, Family, key
from ollamaq.architectures.projectors.vision import EPSILON, GATED_BLOCK, all_but, unprefixed, vision_keys
from ollamaq.architectures.transforms import cut
from ollamaq.tensors import Tensor


def _moments(tensor: Tensor, config: Config) -> dict[str, NDArray[np.intp]]:
    """A convolution over two pictures at a time, as one over each."""
    places = np.arange(tensor.n_rows).reshape(tensor.shape[:-1])
    return {"v.patch_embd": places[:, :, 0], "v.patch_embd.weight.1": places[:, :, 1]}


def _windows(config: Config) -> int:
    """Of how many layers one looks at the whole picture, the others at windows of it."""
    whole = config["fullatt_block_indexes"]
    if [*whole] != [*range(whole[0], len(whole) * (whole[0] + 1), whole[0] + 1)]:
        raise ValueError(f"fullatt_block_indexes {whole}")
    return int(whole[0]) + 1


EPS = key(EPSILON, lambda config: config["whole"].get("rms_norm_eps", 1e-6), type=F32)
"""The converter takes the language model's."""

QWEN2_5_VISION = Family(
    arch=MODEL_ARCH.MMPROJ,
    classes=("Qwen2_5_VLForConditionalGeneration",),
    defaults={
        "depth": 32,
        "hidden_size": 3584,
        "intermediate_size": 3420,
        "num_heads": 16,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "image_size": 560,
        "num_hidden_layers": lambda config: config["depth"],
        "num_attention_heads": lambda config: config["num_heads"],
    },
    sizes={
        "colours": lambda config: config.get("in_channels", config.get("in_chans", 3)),
        "merged": lambda config: config["hidden_size"] * config["spatial_merge_size"] ** 2,
    },
    common=(),
    keys=vision_keys(
        "qwen2.5vl_merger",
        key("use_silu", lambda config: True, type=BOOL),
        key("vision.n_wa_pattern", _windows),
        EPS,
    ),
    tensors={
        "v.patch_embd": ("hidden_size", "colours", "patch_size", "patch_size"),
        "v.patch_embd.weight.1": ("hidden_size", "colours", "patch_size", "patch_size"),
        "v.post_ln": ("hidden_size",),
        "mm.0": ("merged", "merged"),
        "mm.2": ("text_hidden_size", "merged"),
    },
    bare=(".weight.1",),
    layers="v.blk",
    block=GATED_BLOCK,
    foreign=all_but("visual"),
    renamed=unprefixed("visual"),
    split={
        "patch_embed.proj.weight": _moments,
        "attn.qkv.weight": cut(attn_q="hidden_size", attn_k="hidden_size", attn_v="hidden_size"),
        "attn.qkv.bias": cut(**{f"attn_{part}.bias": "hidden_size" for part in "qkv"}),
    },
)

QWEN2_VISION = replace(
    QWEN2_5_VISION,
    classes=("Qwen2VLForConditionalGeneration",),
    defaults={
        "depth": 32,
        "embed_dim": 1280,
        "hidden_size": 3584,
        "mlp_ratio": 4,
        "num_heads": 16,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "image_size": 560,
        "num_hidden_layers": lambda config: config["depth"],
        "num_attention_heads": lambda config: config["num_heads"],
    },
    sizes={
        "colours": QWEN2_5_VISION.sizes["colours"],
        "merged": lambda config: config["embed_dim"] * config["spatial_merge_size"] ** 2,
        "intermediate_size": lambda config: int(config["embed_dim"] * config["mlp_ratio"]),
    },
    keys=vision_keys("qwen2vl_merger", EPS, width="embed_dim", feed_forward="hidden_size"),
    tensors={
        "v.patch_embd": ("embed_dim", "colours", "patch_size", "patch_size"),
        "v.patch_embd.weight.1": ("embed_dim", "colours", "patch_size", "patch_size"),
        "v.post_ln": ("embed_dim",),
        "v.post_ln.bias": ("embed_dim",),
        "mm.0": ("merged", "merged"),
        "mm.2": ("text_hidden_size", "merged"),
    },
    block={
        "ln1": ("embed_dim",),
        "ln1.bias": ("embed_dim",),
        "attn_q": ("embed_dim", "embed_dim"),
        "attn_k": ("embed_dim", "embed_dim"),
        "attn_v": ("embed_dim", "embed_dim"),
        "attn_out": ("embed_dim", "embed_dim"),
        "ln2": ("embed_dim",),
        "ln2.bias": ("embed_dim",),
        "ffn_up": ("intermediate_size", "embed_dim"),
        "ffn_down": ("embed_dim", "intermediate_size"),
    },
    split={
        "patch_embed.proj.weight": _moments,
        "attn.qkv.weight": cut(attn_q="embed_dim", attn_k="embed_dim", attn_v="embed_dim"),
        "attn.qkv.bias": cut(**{f"attn_{part}.bias": "embed_dim" for part in "qkv"}),
    },
)
