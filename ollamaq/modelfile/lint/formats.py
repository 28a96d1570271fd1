"""Which of the known chat formats a TEMPLATE means, by the prompt that it makes of a conversation."""

from __future__ import annotations

from difflib import SequenceMatcher
from functools import lru_cache

from ollamaq.chat.conversations import CONVERSATIONS
from ollamaq.chat.gotemplate import GoTemplate, ollama_prompt
from ollamaq.chat.known import KnownFormat, known_formats
from ollamaq.errors import OllamaqError

QUESTION = "no system message"
TURNS = "system message and several turns"
"""A system message of its own keeps a format's default one out of the prompt."""
ALMOST = 0.95
"""Alike as `SequenceMatcher` has it; formats that have nothing to do with each other stay below 0.9."""
LONGEST = 5000
"""Of a prompt that is compared; those of the known formats have less than 1000 characters."""


@lru_cache(256)
def prompt(template: str, conversation: str = TURNS) -> str | None:
    """What a TEMPLATE makes of a conversation; None if it fails."""
    try:
        return ollama_prompt(GoTemplate.parse(template), CONVERSATIONS[conversation])
    except OllamaqError:
        return None


@lru_cache(256)
def format_of(template: str) -> KnownFormat | None:
    """The first known format with the TEMPLATE's prompts."""
    made = prompt(template)
    return next((known for known in known_formats().values() if prompt(known.go) == made), None)


@lru_cache(256)
def almost(template: str) -> tuple[KnownFormat, str, str] | None:
    """The known format that a TEMPLATE misses by little, what it says where they part, and what the format says."""
    made = prompt(template)
    if made is None or len(made) > LONGEST or format_of(template):
        return None
    likeness = {
        known.name: SequenceMatcher(None, made, meant, autojunk=False).ratio()
        for known in known_formats().values()
        if (meant := prompt(known.go))
    }
    nearest = known_formats()[max(likeness, key=likeness.__getitem__)]
    if likeness[nearest.name] < ALMOST:
        return None
    meant = prompt(nearest.go) or ""
    at = next((i for i, (a, b) in enumerate(zip(made, meant, strict=False)) if a != b), min(len(made), len(meant)))
    start = max(0, at - 20)
    return nearest, made[start : at + 20], meant[start : at + 20]
