"""Where an answer ends: the tokens that generation must stop at, and what says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ollamaq.chat.jinja import ChatFormat, TemplateRefuses, token_text
from ollamaq.checkpoint import Checkpoint
from ollamaq.errors import ModelRefused

ANSWER = "The answer that is looked for."


@dataclass(frozen=True)
class Stop:
    """A token's text, and where it is named as an end."""

    text: str
    origin: str


def stop_tokens(checkpoint: Checkpoint) -> tuple[Stop, ...]:
    """End-of-turn tokens, the most telling first: what the template writes after an answer, then what files name.

    Only special tokens count: an id in a config may point at an ordinary word, at which an answer would be cut short.
    """
    special = {
        token["id"]: token["content"]
        for token in checkpoint.tokenizer.get("added_tokens") or []
        if token.get("special")
    }
    found: dict[str, Stop] = {}
    for text, origin in _named(checkpoint, special):
        if text in special.values():
            found.setdefault(text, Stop(text, origin))
    return tuple(found.values())


def _named(checkpoint: Checkpoint, special: dict[int, str]) -> Iterator[tuple[str, str]]:
    if after := _after_answer(checkpoint, special):
        yield after, "chat template"
    for id_ in _ids(checkpoint.generation_config.get("eos_token_id")):
        yield special.get(id_, ""), "generation_config.json"
    yield token_text(checkpoint.tokenizer_config.get("eos_token")) or "", "tokenizer_config.json"
    for id_ in _ids(checkpoint.config.get("eos_token_id")):
        yield special.get(id_, ""), "config.json"


def _ids(entry: Any) -> list[int]:
    ids = entry if isinstance(entry, list) else [entry]
    return [id_ for id_ in ids if isinstance(id_, int)]


def _after_answer(checkpoint: Checkpoint, special: dict[int, str]) -> str | None:
    """The special token that the template puts right behind an assistant's turn."""
    chat_format = ChatFormat.of(checkpoint)
    if chat_format is None:
        return None
    turns = [{"role": "user", "content": "Question?"}, {"role": "assistant", "content": ANSWER}]
    try:
        rendered = chat_format.render(turns, add_generation_prompt=False)
    except (TemplateRefuses, ModelRefused):
        return None
    after = rendered.rpartition(ANSWER)[2].lstrip()
    return max((text for text in special.values() if text and after.startswith(text)), key=len, default=None)
