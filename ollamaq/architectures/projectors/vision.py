"""What the projectors of all families write, and how they leave the language model's tensors alone.

A projector's config is the model's ``vision_config`` with, beside it, ``text_hidden_size`` and ``vocab_size`` of the
language model, ``preprocessor`` (how images are prepared), ``whole`` (all of config.json) and ``added_tokens`` (ids by
text). Keys and their order are those of llama.cpp's converter (``MmprojModel`` in ``conversion/base.py``).
"""

from __future__ import annotations

import re

from ollamaq.architectures.family import BOOL, F32, FILE_TYPE, STRING, Computed, Config, Key, key


def vision_keys(
    projector: str, *more: Key, width: str = "hidden_size", feed_forward: str = "intermediate_size"
) -> tuple[Key, ...]:
    """All keys of a projector; ``width`` and ``feed_forward`` are the config's names for these sizes of the tower."""
    return (
        FILE_TYPE,
        key("has_vision_encoder", lambda config: True, type=BOOL),
        key("vision.projection_dim", "text_hidden_size"),
        key("vision.image_size", "image_size"),
        key("vision.patch_size", "patch_size"),
        key("vision.embedding_length", width),
        key("vision.feed_forward_length", feed_forward),
        key("vision.block_count", "blocks"),
        key("vision.attention.head_count", "num_attention_heads"),
        key("vision.image_mean", lambda config: config["preprocessor"]["image_mean"]),
        key("vision.image_std", lambda config: config["preprocessor"]["image_std"]),
        key("projector_type", lambda config: projector, type=STRING),
        *more,
    )


EPSILON = "vision.attention.layer_norm_epsilon"
NORM = key(EPSILON, "layer_norm_eps", type=F32)
GATED_BLOCK = {
    "ln1": ("hidden_size",),
    "attn_q": ("hidden_size", "hidden_size"),
    "attn_k": ("hidden_size", "hidden_size"),
    "attn_v": ("hidden_size", "hidden_size"),
    "attn_out": ("hidden_size", "hidden_size"),
    "ln2": ("hidden_size",),
    "ffn_gate": ("intermediate_size", "hidden_size"),
    "ffn_up": ("intermediate_size", "hidden_size"),
    "ffn_down": ("hidden_size", "intermediate_size"),
}
"""A layer of a tower whose feed-forward is gated: its tensors and their shapes, named by the config's keys."""


def activation(name: str) -> Computed:
    """Whether the tower's activation is that one, where GGUF says so of the one that it is.

    Raises:
        ValueError: GGUF has no word for the tower's.
    """

    def used(config: Config) -> bool | None:
        if config["hidden_act"] not in ("gelu", "silu"):
            raise ValueError(f"hidden_act {config['hidden_act']!r}")
        return True if config["hidden_act"] == name else None

    return used


def all_but(*parts: str) -> re.Pattern[str]:
    """Found in the names of all tensors but those of these parts."""
    return re.compile(rf"^(?!(model\.)?({'|'.join(parts)})\.)")


def unprefixed(*parts: str) -> dict[str, str]:
    """Parts of names as they were before transformers 4.52 put ``model.`` before them in memory, and some on disk."""
    return {f"model.{part}.": f"{part}." for part in parts}
