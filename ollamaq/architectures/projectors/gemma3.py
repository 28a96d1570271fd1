"""Gemma 3's eyes: a SigLIP tower, pooled and projected."""

from __future__ import annotations

import re

from gguf import MODEL_ARCH
from gguf import GGMLQuantizationType as Type

from ollamaq.architectures.family import BOOL, Config, Family, key
from ollamaq.architectures.projectors.vision import NORM, unprefixed, vision_keys
from ollamaq.architectures.transforms import plus_one

PARTS = ("multi_modal_projector", "multimodal_projector", "vision_tower", "vision_model")


def _pooled(config: Config) -> int | None:
    """How many patches a side become one, where that is not the four of every published model."""
    side = int(config["preprocessor"].get("image_seq_length", 256) ** 0.5)
    factor = int(config["image_size"] // config["patch_size"] // side)
    return factor if factor > 0 and factor != 4 else None


GEMMA3_VISION = Family(
    arch=MODEL_ARCH.MMPROJ,
    classes=("Gemma3ForConditionalGeneration",),
    defaults={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "image_size": 224,
        "patch_size": 16,
        "layer_norm_eps": 1e-6,
    },
    sizes={"patches": lambda config: (config["image_size"] // config["patch_size"]) ** 2},
    common=(),
    keys=vision_keys(
        "gemma3",
        NORM,
        key("use_gelu", lambda config: True, type=BOOL),
        key("vision.projector.scale_factor", _pooled),
    ),
    tensors={
        "mm.input_projection": ("hidden_size", "text_hidden_size"),
        "mm.soft_emb_norm": ("hidden_size",),
        "v.patch_embd": ("hidden_size", "num_channels", "patch_size", "patch_size"),
        "v.position_embd": ("patches", "hidden_size"),
        "v.post_ln": ("hidden_size",),
        "v.post_ln.bias": ("hidden_size",),
    },
    layers="v.blk",
    block={
        "ln1": ("hidden_size",),
        "ln1.bias": ("hidden_size",),
        "attn_q": ("hidden_size", "hidden_size"),
        "attn_k": ("hidden_size", "hidden_size"),
        "attn_v": ("hidden_size", "hidden_size"),
        "attn_out": ("hidden_size", "hidden_size"),
        "ln2": ("hidden_size",),
        "ln2.bias": ("hidden_size",),
        "ffn_up": ("intermediate_size", "hidden_size"),
        "ffn_down": ("hidden_size", "intermediate_size"),
    },
    foreign=re.compile(rf"^(?!(model\.)?({'|'.join(PARTS)})\.)|vision_model\.head\."),
    renamed={**unprefixed(*PARTS), "_weight": ".weight"},
    rearranged={"mm.soft_emb_norm": plus_one},
    types={"mm.input_projection": Type.F16, "v.patch_embd": Type.F32},
)
