"""Model families: a short declarative file each. To add one, write its file and name it in ``FAMILIES``."""

from __future__ import annotations

import difflib
from typing import Any

from ollamaq.architectures.family import Family
from ollamaq.architectures.llama import LLAMA
from ollamaq.architectures.qwen import QWEN2, QWEN3
from ollamaq.errors import ModelRefused

FAMILIES: tuple[Family, ...] = (LLAMA, QWEN2, QWEN3)
BY_CLASS = {name: family for family in FAMILIES for name in family.classes}


def family_of(config: dict[str, Any], where: str) -> Family:
    """The family of a model's config.json; ``where`` names the file in errors.

    Raises:
        ModelRefused: its class is in no family.
    """
    classes = config.get("architectures")
    name = classes[0] if isinstance(classes, list) and classes else None
    if not isinstance(name, str):
        raise ModelRefused(f"{where} names no architecture", next_step="give a model that transformers saved")
    if name in BY_CLASS:
        return BY_CLASS[name]
    nearest = difflib.get_close_matches(name, BY_CLASS, n=3, cutoff=0)
    raise ModelRefused(
        f"{where} has architecture {name!r}, which is not supported",
        next_step=f"the nearest that work: {', '.join(nearest)}; a new one is a file in ollamaq/architectures/",
    )
