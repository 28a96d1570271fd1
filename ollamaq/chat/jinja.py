"""Renders a chat template as transformers' ``apply_chat_template`` does (``utils/chat_template_utils.py``).

A template is a program by a stranger: it runs in Jinja's immutable sandbox, and its output and time are bounded.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ollamaq.checkpoint import Checkpoint
from ollamaq.errors import ModelRefused

MAX_CHARACTERS = 4_000_000
MAX_SECONDS = 10.0
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TemplateRefuses(Exception):
    """The template itself raised an exception: it has no form for this conversation."""


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
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            return environment.from_string(self.template)
        except jinja2.TemplateSyntaxError as error:
            raise _refusal(error, error.lineno) from error

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The prompt of a conversation.

        Raises:
            TemplateRefuses: the template has no form for it.
            ModelRefused: the template fails, or takes too long or too much.
        """
        given = {"tools": None, "documents": None, **self.special_tokens, **variables}
        deadline, parts, size = time.monotonic() + MAX_SECONDS, [], 0
        try:
            for part in self._compiled.generate(
                messages=[dict(message) for message in messages], add_generation_prompt=add_generation_prompt, **given
            ):
                parts.append(part)
                size += len(part)
                if size > MAX_CHARACTERS or time.monotonic() > deadline:
                    limit = f"{MAX_CHARACTERS:,} characters or {MAX_SECONDS:.0f} seconds"
                    raise ModelRefused(f"the chat template goes on beyond {limit}", next_step="mend the template")
        except (TemplateRefuses, ModelRefused):
            raise
        except Exception as error:  # whatever a stranger's program can raise
            raise _refusal(error) from error
        return "".join(parts)


def token_text(entry: Any) -> str | None:
    """A special token of tokenizer_config.json, which is text or a dictionary with ``content``."""
    if isinstance(entry, Mapping):
        entry = entry.get("content")
    return entry if isinstance(entry, str) and entry else None


class _Generation(Extension):
    """``{% generation %}`` marks what the assistant says, for training; the text is what it encloses."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own declaration)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateRefuses(message)


def _refusal(error: Exception, line: int | None = None) -> ModelRefused:
    where = f", line {line}" if line else ""
    return ModelRefused(
        f"the chat template fails{where}: {error}", next_step="mend chat_template.jinja or tokenizer_config.json"
    )
