"""A proof that two forms of a chat format say the same: over known conversations, and over many made at random."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from ollamaq.chat.compare import DIFFERS, EQUAL, LIMIT, REFUSED, Verdict, compared
from ollamaq.chat.conversations import KINDS, SUITE, Conversation, Message
from ollamaq.chat.forms import Form
from ollamaq.chat.random_conversations import constants, conversations

RANDOM = 300
MAX_TRIES = 400
"""Comparisons that making one counterexample smaller may take."""


@dataclass
class Proof:
    """Verdicts by conversation; ``counterexample`` is the first that differs, made as small as it goes."""

    verdicts: list[tuple[Conversation, Verdict]] = field(default_factory=list)
    counterexample: tuple[Conversation, Verdict] | None = None

    @property
    def holds(self) -> bool:
        """Whether no prompt differs, and some are equal."""
        return self.counterexample is None and any(verdict.verdict == EQUAL for _, verdict in self.verdicts)

    def counts(self, kind: str) -> Counter[str]:
        """Verdicts on conversations of a kind."""
        return Counter(verdict.verdict for conversation, verdict in self.verdicts if conversation.kind == kind)

    def holds_for(self, kind: str) -> bool:
        return not self.counts(kind)[DIFFERS]

    @property
    def summary(self) -> str:
        """``text 120 of 120 equal (12 refused, 3 beyond Ollama), tools …``."""
        return ", ".join(told for kind in KINDS if (told := self._told(kind)))

    def _told(self, kind: str) -> str:
        counts = self.counts(kind)
        others = ((REFUSED, "refused"), (LIMIT, "beyond Ollama"))
        besides = [f"{counts[what]} {name}" for what, name in others if counts[what]]
        if not counts:
            return ""
        told = f"{kind} {counts[EQUAL]} of {counts[EQUAL] + counts[DIFFERS]} equal"
        return f"{told} ({', '.join(besides)})" if besides else told


def prove(
    a: Form, b: Form, *, random: int = RANDOM, seed: int = 0, chats: Mapping[str, Conversation] | None = None
) -> Proof:
    """Compares two forms over ``chats`` (else the suite) and so many random conversations."""
    proof = Proof()
    for name, conversation in _all(a, b, random, seed, chats):
        verdict = compared(a, b, name, conversation)
        proof.verdicts.append((conversation, verdict))
        if verdict.verdict == DIFFERS and proof.counterexample is None:
            proof.counterexample = _smallest(a, b, conversation, verdict)
    return proof


def _all(
    a: Form, b: Form, random: int, seed: int, chats: Mapping[str, Conversation] | None
) -> Iterator[tuple[str, Conversation]]:
    yield from (SUITE if chats is None else chats).items()
    looked_for = tuple(
        dict.fromkeys(text for form in (a, b) if form.language == "Jinja" for text in constants(form.text))
    )
    for at, conversation in enumerate(conversations(random, seed=seed, looked_for=looked_for), start=1):
        yield f"random {at} of seed {seed}", conversation


def _smallest(a: Form, b: Form, conversation: Conversation, verdict: Verdict) -> tuple[Conversation, Verdict]:
    """A smaller conversation that differs, too."""
    tries = 0
    found = conversation, verdict
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(found[0]):
            tries += 1
            if tries > MAX_TRIES:
                return found
            tried = compared(a, b, verdict.conversation, candidate)
            if tried.verdict == DIFFERS:
                found, smaller = (candidate, tried), True
                break
    return found


def _smaller(conversation: Conversation) -> Iterator[Conversation]:
    """Conversations with a little less in them, the biggest steps first."""
    messages, tools = conversation.messages, conversation.tools
    if tools:
        yield replace(conversation, tools=None)
        if len(tools) > 1:
            yield from (replace(conversation, tools=[tool]) for tool in tools)
    if conversation.think is not None:
        yield replace(conversation, think=None)
    for at in range(len(messages)):
        if len(messages) > 1:
            yield replace(conversation, messages=messages[:at] + messages[at + 1 :])
    for at, message in enumerate(messages):
        for less in _less(message):
            yield replace(conversation, messages=[*messages[:at], less, *messages[at + 1 :]])


def _less(message: Message) -> Iterator[Message]:
    for key in ("reasoning_content", "tool_calls"):
        if message.get(key):
            yield {name: value for name, value in message.items() if name != key}
    calls = message.get("tool_calls") or []
    if len(calls) > 1:
        yield from ({**message, "tool_calls": [one]} for one in calls)
    for key in ("content", "reasoning_content"):
        text = message.get(key)
        if isinstance(text, str) and len(text) > 1:
            half = len(text) // 2
            yield from ({**message, key: less} for less in (text[:half], text[half:], text[1:], text[:-1]))
