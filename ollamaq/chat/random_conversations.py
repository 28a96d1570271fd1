"""Conversations made at random, with what a chat template looks for in their texts."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from jinja2 import nodes as jinja

from ollamaq.chat.conversations import (
    CLOCK,
    KINDS,
    SEARCH,
    THINKING,
    TOOLS,
    WEATHER,
    Conversation,
    Message,
    assistant,
    call,
    result,
    system,
    user,
)
from ollamaq.chat.sandbox import Sandbox

WORDS = (
    *(
        "Hello.",
        "What is it?",
        "two\nlines",
        "a <b> & 'c' \"d\"",
        "naïve 日本語 🙂",
        '{"a": [1, null]}',
        "x",
        "{{ .System }}",
        "\\n",
    ),
    *(
        "<think>",
        "</think>",
        "<think>\nso\n</think>\n\nthen",
        "<tool_call>",
        "[INST]",
        "</s>",
        "<|im_end|>",
        "/think",
        "/no_think",
    ),
)
SPACES = ("", "", "", " ", "\n", "\n\n", "\t", "  \n", "\u00a0", "\u3000")
MARKER = re.compile(r"<[^<>\s]{1,40}>|\[/?[A-Z_]{2,30}\]")
MAX_CONSTANT = 60
"""Longer texts of a template are what it writes, not what it looks for."""


def constants(template: str) -> tuple[str, ...]:
    """Texts that a chat template may look for: its string constants, and the markers that it writes."""
    found: dict[str, None] = {}
    tree = Sandbox().parse(template)
    texts = [node.value for node in tree.find_all(jinja.Const) if isinstance(node.value, str)]
    found.update(dict.fromkeys(text for text in texts if text.strip() and len(text) <= MAX_CONSTANT))
    for text in [*texts, *(node.data for node in tree.find_all(jinja.TemplateData))]:
        found.update(dict.fromkeys(MARKER.findall(text)))
    return tuple(found)


def conversations(count: int, *, seed: int = 0, looked_for: Sequence[str] = ()) -> Iterator[Conversation]:
    """So many, of all kinds by turns; the same for the same arguments."""
    maker = _Maker(random.Random(seed), looked_for)
    for at in range(count):
        yield maker.conversation(KINDS[at % len(KINDS)])


class _Maker:
    def __init__(self, rng: random.Random, looked_for: Sequence[str]) -> None:
        self.rng = rng
        self.words = (*WORDS, *looked_for)

    def conversation(self, kind: str) -> Conversation:
        rng = self.rng
        messages = [system(self.text())] if rng.random() < 0.5 else []
        tools = None
        if kind == TOOLS or (kind == THINKING and rng.random() < 0.3):
            tools = rng.sample([WEATHER, CLOCK, SEARCH], rng.randint(1, 3))
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            messages += [user(self.text()), *self.answer(kind, tools)]
        messages.append(user(self.text()))
        if tools and rng.random() < 0.4:
            messages += self.calls(kind)
        elif rng.random() < 0.08:
            messages.append(assistant(self.text() + "So"))
        if rng.random() < 0.05:
            messages.insert(rng.randrange(len(messages) + 1), system(self.text()))
        think = rng.choice((True, False)) if kind == THINKING else None
        return Conversation(messages, tools, think)

    def answer(self, kind: str, tools: list[dict[str, Any]] | None) -> list[Message]:
        called = self.calls(kind) if tools and self.rng.random() < 0.5 else []
        return [*called, assistant(self.text(), thought=self.thought(kind))]

    def calls(self, kind: str) -> list[Message]:
        """A turn with calls, and their results."""
        rng = self.rng
        calls = [call(*self.function()) for _ in range(rng.choice((1, 1, 2)))]
        said = self.text() if rng.random() < 0.3 else ""
        results = [result(self.text(), one["function"]["name"]) for one in calls]
        return [assistant(said, *calls, thought=self.thought(kind)), *results]

    def function(self) -> tuple[str, dict[str, Any]]:
        values: tuple[Any, ...] = (self.text(), 3, 0.5, True, False, None, ["a", self.text()], {"deep": {"er": [1]}})
        return self.rng.choice(
            [
                ("get_weather", {"city": self.text()}),
                ("now", {}),
                ("search", {"limit": self.rng.choice(values), "terms": [self.text()]}),
                ("search", {"filters": self.rng.choice(values), "terms": self.rng.choice(values)}),
            ]
        )

    def thought(self, kind: str) -> str:
        return self.text() if kind == THINKING and self.rng.random() < 0.7 else ""

    def text(self) -> str:
        rng = self.rng
        joined = rng.choice(("", " ", "\n")).join(rng.choice(self.words) for _ in range(rng.choice((0, 1, 1, 1, 2, 3))))
        return rng.choice(SPACES) + joined + rng.choice(SPACES)
