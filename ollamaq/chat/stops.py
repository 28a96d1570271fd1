"""Where an answer ends: the tokens that generation must stop at, and what says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ollamaq.chat.jinja import ChatFormat, TemplateRefuses, token_text
from ollamaq.checkpoint import Checkpoint
from ollamaq.errors import ModelRefused
from ollamaq.tokenizers.added import listed

ANSWER = "The answer that is looked for."
THOUGHT = "The thought before it."


@dataclass(frozen=True)
class Stop:
    """A token's text, and where it is named as an end."""

    text: str
    origin: str


def stop_tokens(checkpoint: Checkpoint) -> tuple[Stop, ...]:
    """End-of-turn tokens, the most telling first: what the template writes after an answer, then what files name.

    Only tokens that were added to the vocabulary count: an id in a config may point at an ordinary word, at which an
    answer would be cut short.
    """
    added = listed(checkpoint)
    found: dict[str, Stop] = {}
    for text, origin in _named(checkpoint, added):
        if text and text in added.values():
            found.setdefault(text, Stop(text, origin))
    return tuple(found.values())


def _named(checkpoint: Checkpoint, added: dict[int, str]) -> Iterator[tuple[str | None, str]]:
    yield _after_answer(checkpoint, added), "chat template"
    yield from ((added.get(id_), "generation_config.json") for id_ in _ids(checkpoint.generation_config))
    yield token_text(checkpoint.tokenizer_config.get("eos_token")), "tokenizer_config.json"
    yield from ((added.get(id_), "config.json") for id_ in _ids(checkpoint.config))


def _ids(config: dict[str, Any]) -> list[int]:
    entry = config.get("eos_token_id")
    ids = entry if isinstance(entry, list) else [entry]
    return [id_ for id_ in ids if isinstance(id_, int)]


def _after_answer(checkpoint: Checkpoint, added: dict[int, str]) -> str | None:
    """The token that the template puts right behind an assistant's turn, unless it ends a part of one, too."""
    chat_format = ChatFormat.of(checkpoint)
    rendered = _answered(chat_format) if chat_format else ""
    after = rendered.rpartition(ANSWER)[2].lstrip()
    stop = max((text for text in added.values() if text and after.startswith(text)), key=len, default=None)
    if not stop or not chat_format:
        return None
    thought = _answered(chat_format, reasoning_content=THOUGHT).rpartition(ANSWER)[0]
    return None if thought.rpartition(THOUGHT)[2].count(stop) and THOUGHT in thought else stop


def _answered(chat_format: ChatFormat, **more: str) -> str:
    """A question and its answer; empty where the template refuses them."""
    turns = [{"role": "user", "content": "Question?"}, {"role": "assistant", "content": ANSWER, **more}]
    try:
        return chat_format.render(turns, add_generation_prompt=False)
    except (TemplateRefuses, ModelRefused):
        return ""
