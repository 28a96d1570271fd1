"""Publish a fine-tuned model to Ollama: small, prompted as in training, and tested before users see it.

``ollamaq.publish("./finetune", quantization="Q5_K_M")`` does what the command of that name does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ollamaq.errors import GateFailed, ModelRefused, OllamaqError, ServerError, ToolchainError, UsageError

if TYPE_CHECKING:
    from ollamaq.publishing import publish
    from ollamaq.release import Release

__all__ = [
    "GateFailed",
    "ModelRefused",
    "OllamaqError",
    "Release",
    "ServerError",
    "ToolchainError",
    "UsageError",
    "publish",
]

_LATER = {"publish": "ollamaq.publishing", "Release": "ollamaq.release"}
"""Imported when they are asked for: commands that publish nothing start in half the time, completion among them."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return found
