"""Renders a chat template as transformers' ``apply_chat_template`` does (``utils/chat_template_utils.py``)."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jinja2

from ollamaq.chat.sandbox import MAX_SECONDS, MAX_STEPS, METER, Meter, OutOfBounds, Sandbox, TemplateRefuses
from ollamaq.checkpoint import Checkpoint
from ollamaq.errors import ModelRefused

__all__ = ["ChatFormat", "TemplateRefuses", "token_text"]

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names for what a message thought; templates read the first two."""


@dataclass(frozen=True)
class ChatFormat:
    """A chat template and the special tokens that it may name (``bos_token``, ``eos_token``, …).

    Raises:
        ModelRefused: the template is not valid Jinja.
    """

    template: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _ = self._compiled

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> ChatFormat | None:
        """That of a checkpoint, or None where it has no chat template."""
        if checkpoint.chat_template is None:
            return None
        found = {name: token_text(checkpoint.tokenizer_config.get(name)) for name in SPECIAL_TOKENS}
        return cls(checkpoint.chat_template, {name: text for name, text in found.items() if text is not None})

    @cached_property
    def _compiled(self) -> jinja2.Template:
        try:
            return Sandbox().template(self.template)
        except Exception as error:  # Python's own compiler can fail on it, too
            raise _refusal(error, getattr(error, "lineno", None)) from error

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The prompt of a conversation; ``variables`` are ``tools``, ``documents``, ``enable_thinking``, ….

        Raises:
            TemplateRefuses: the template has no form for it.
            ModelRefused: the template fails, or takes too long or too much.
        """
        given = {"tools": None, "documents": None, **self.special_tokens, **variables, METER: Meter()}
        try:
            return self._compiled.render(
                {
                    "messages": [_message(message) for message in messages],
                    "add_generation_prompt": add_generation_prompt,
                }
                | given
            )
        except TemplateRefuses:
            raise
        except (OutOfBounds, MemoryError) as error:
            limit = f"{MAX_SECONDS:.0f} seconds or {MAX_STEPS:,} steps and characters"
            raise _refusal(f"it takes more than {limit}", _line(error)) from error
        except Exception as error:  # whatever a stranger's program can raise
            raise _refusal(error, _line(error)) from error


def token_text(entry: Any) -> str | None:
    """A special token of tokenizer_config.json, which is text or a dictionary with ``content``."""
    if isinstance(entry, Mapping):
        entry = entry.get("content")
    return entry if isinstance(entry, str) and entry else None


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message, with its reasoning under each name that templates read."""
    thought = next((message[name] for name in REASONING if message.get(name) is not None), None)
    if thought is None:
        return dict(message)
    return {"thinking": thought, **message, "reasoning_content": thought}


def _line(error: BaseException) -> int | None:
    """The line of the template at which it failed."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"]
    return lines[-1] if lines else None


def _refusal(error: Exception | str, line: int | None) -> ModelRefused:
    where = f", line {line}" if line else ""
    said = " ".join(str(error).split()) or type(error).__name__
    return ModelRefused(
        f"the chat template fails{where}: {said}", next_step="mend chat_template.jinja or tokenizer_config.json"
    )
