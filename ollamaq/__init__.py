"""Publish a fine-tuned model to Ollama: small, prompted as in training, and tested before users see it.

``ollamaq.publish("./finetune", quantization="Q5_K_M")`` does what the command of that name does.
"""

from __future__ import annotations

from ollamaq.errors import GateFailed, ModelRefused, OllamaqError, ServerError, ToolchainError, UsageError
from ollamaq.publish import publish
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
