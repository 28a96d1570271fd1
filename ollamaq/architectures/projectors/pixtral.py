"""Pixtral's eyes, and Mistral Small 3.1's, which are the same with patches merged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gguf import MODEL_ARCH

from ollamaq.architectures.family import BOOL, Config, Family, Named, key, rotary_pairs
from ollamaq.architectures.projectors.vision import GATED_BLOCK, NORM, activation, all_but, unprefixed, vision_keys
from ollamaq.errors import ModelRefused
from ollamaq.tensors import Tensor

PARTS = ("multi_modal_projector", "vision_tower")
BREAK, BREAK_EMBEDDING = "[IMG_BREAK]", "v.token_embd.img_break"


def _with_break(tensors: Named, config: Config) -> Iterator[tuple[str, Tensor]]:
    """The embedding of the token between rows of a picture, for the projector puts it there itself.

    The pinned converter skips ``language_model.`` before it looks for that, and llama.cpp then refuses its file.
    """
    for name, tensor in tensors:
        if not name.endswith("embed_tokens.weight"):
            yield name, tensor
        elif (at := config["added_tokens"].get(BREAK, 0)) <= 0 or at >= tensor.n_rows:
            raise ModelRefused(
                f"the tokenizer's files have no token {BREAK}, whose embedding Pixtral's projector needs",
                next_step="save the tokenizer beside the model: tokenizer.save_pretrained(...)",
            )
        else:
            yield BREAK_EMBEDDING, _row(tensor, at)


def _row(tensor: Tensor, at: int) -> Tensor:
    return Tensor(tensor.name, tensor.type, (tensor.row,), lambda start, stop: tensor.rows(at, at + 1)[start:stop])


PIXTRAL = Family(
    arch=MODEL_ARCH.MMPROJ,
    classes=("LlavaForConditionalGeneration",),
    defaults={
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_channels": 3,
        "image_size": 1024,
        "patch_size": 16,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    },
    common=(),
    keys=vision_keys(
        "pixtral",
        NORM,
        key("use_silu", activation("silu"), type=BOOL),
        key("use_gelu", activation("gelu"), type=BOOL),
        key("vision.spatial_merge_size", lambda config: config["whole"].get("spatial_merge_size")),
    ),
    tensors={
        BREAK_EMBEDDING: ("text_hidden_size",),
        "mm.1": ("text_hidden_size", "hidden_size"),
        "mm.2": ("text_hidden_size", "text_hidden_size"),
        "v.patch_embd": ("hidden_size", "num_channels", "patch_size", "patch_size"),
        "v.pre_ln": ("hidden_size",),
    },
    bare=(BREAK_EMBEDDING,),
    layers="v.blk",
    block=GATED_BLOCK,
    foreign=all_but(*PARTS, r"v\.token_embd"),
    renamed=unprefixed(*PARTS),
    gathered=_with_break,
    rearranged=dict.fromkeys(("attn_q", "attn_k"), rotary_pairs("num_attention_heads")),
)

MISTRAL3_VISION = replace(
    PIXTRAL,
    classes=("Mistral3ForConditionalGeneration",),
    sizes={
        "merge": lambda config: config["whole"].get("spatial_merge_size", 2),
        "merging": lambda config: config["hidden_size"] * config["merge"] ** 2,
    },
    keys=(*PIXTRAL.keys[:-1], key("vision.spatial_merge_size", "merge")),
    tensors={
        **PIXTRAL.tensors,
        "mm.input_norm": ("hidden_size",),
        "mm.patch_merger": ("hidden_size", "merging"),
    },
)
