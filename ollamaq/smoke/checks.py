"""Single checks: what is wrong with an answer, a prompt, a count, in words; None where nothing is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ollamaq.servers.target import Reply

LEAKS = re.compile(r"<\|[^|<>\n]{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|<(?:start|end)_of_turn>|\[/?INST\]|</s>")
"""Marks of chat formats, which an answer must not show, whatever the model's own special tokens are."""

SHOWN = 60


def quoted(text: str) -> str:
    """The text on one line, cut where it is long."""
    short = text if len(text) <= 2 * SHOWN else f"{text[: 2 * SHOWN]}…"
    return repr(short)


def wrong_regex(expression: str) -> str | None:
    try:
        re.compile(expression)
    except re.error as error:
        return str(error)
    return None


def wrong_answer(reply: Reply, expect: str | None, special_tokens: Iterable[str] = ()) -> str | None:
    if not reply.text.strip():
        return "the answer is empty"
    leaks = [token for token in special_tokens if token in reply.text] or LEAKS.findall(reply.text)
    if leaks:
        return f"{leaks[0]} of the chat format shows in {quoted(reply.text)}"
    if expect and not re.search(expect, reply.text, re.IGNORECASE):
        return f"{quoted(reply.text)} does not match {expect!r}"
    return None


def wrong_end(replies: Sequence[Reply]) -> str | None:
    for reply in replies:
        if reply.done_reason != "stop":
            return f"still going after {reply.answer_tokens} tokens ({reply.done_reason}): …{reply.text[-SHOWN:]!r}"
    return None


def wrong_prompt(found: str, expected: str, bos: str | None) -> str | None:
    """The first place where a rendered prompt differs; a leading BOS may be spelt out or left to the tokenizer."""
    if bos:
        found, expected = found.removeprefix(bos), expected.removeprefix(bos)
    if found == expected:
        return None
    place = next(
        (i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), min(len(found), len(expected))
    )
    start = max(0, place - SHOWN // 4)
    there, training = found[start : start + SHOWN], expected[start : start + SHOWN]
    return f"differs at character {place}: {there!r} there, {training!r} in training"
