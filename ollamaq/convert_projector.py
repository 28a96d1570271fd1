"""A multimodal model's projector in GGUF's terms: what llama.cpp's ``convert_hf_to_gguf.py --mmproj`` writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gguf import GGUFValueType

from ollamaq.architectures import family_of
from ollamaq.architectures.general import NONE
from ollamaq.architectures.projectors import SUPPORTED, projector_of
from ollamaq.checkpoint import Checkpoint
from ollamaq.convert import checked, completed, converted
from ollamaq.errors import ModelRefused
from ollamaq.gguf.model import Model, Value
from ollamaq.tokenizers.added import listed


def convert_projector(checkpoint: Checkpoint, outtype: str, *, overrides: Mapping[str, Any] = NONE) -> Model:
    """The tower that sees and what leads from it to the language model; tensors stay lazy.

    ``outtype`` and ``overrides`` are as in `convert`.

    Raises:
        ModelRefused: the model sees nothing, its projector is not supported, or tensors or settings are missing.
    """
    where = checkpoint.path / checkpoint.config_file
    projector = projector_of(checkpoint.config)
    if projector is None:
        raise ModelRefused(
            f"{where} is of no model whose projector is supported",
            next_step=f"leave --mmproj out: it is for {SUPPORTED}",
        )
    if not checkpoint.preprocessor:
        raise ModelRefused(
            f"{checkpoint.path} has no preprocessor_config.json, which says how pictures are prepared",
            next_step="save the processor beside the model: processor.save_pretrained(...)",
        )
    _, text = completed(checkpoint, family_of(checkpoint.config, str(where)), str(where))
    vision = {
        **checkpoint.config["vision_config"],
        "text_hidden_size": text["hidden_size"],
        "vocab_size": text["vocab_size"],
        "preprocessor": checkpoint.preprocessor,
        "whole": checkpoint.config,
        "added_tokens": {content: at for at, content in listed(checkpoint).items()},
    }
    family, config = completed(replace(checkpoint, config=vision), projector, str(where))
    model = converted(checkpoint, family, config, outtype, overrides)
    kind = {"general.type": Value(GGUFValueType.STRING, "mmproj")}
    return checked(checkpoint, Model(model.metadata | kind, model.tensors))


def left_out(checkpoint: Checkpoint) -> str | None:
    """One sentence on what the language model's GGUF lacks of a multimodal model, and what to do; None if nothing."""
    family = family_of(checkpoint.config, str(checkpoint.path))
    if not any(family.foreign.search(name) for name in checkpoint.tensors):
        return None
    said = f"{checkpoint.path} has more than a language model: what sees or hears is left out"
    if projector_of(checkpoint.config):
        return f"{said}; --mmproj makes a projector of it"
    return f"{said}, for projectors are made of {SUPPORTED} only"
