"""The first suite: the model loads, answers, stops by itself, and is prompted as in training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ollamaq.chat.conversations import CONVERSATIONS
from ollamaq.chat.jinja import ChatFormat, TemplateRefuses
from ollamaq.errors import OllamaqError
from ollamaq.servers.target import Message, Reply, Target
from ollamaq.smoke.checks import quoted, wrong_answer, wrong_end, wrong_prompt

PROMPTS = ("What is the capital of France?",)
OPTIONS = {"temperature": 0, "seed": 0, "num_predict": 256}
"""Greedy, so that the same model gives the same answers."""


@dataclass(frozen=True)
class CheckResult:
    """What a check saw; ``ok`` is None where it could not be made here, and ``detail`` says why."""

    name: str
    ok: bool | None
    detail: str
    seconds: float = 0.0


Verdict = tuple[bool | None, str]


def run_smoke(
    target: Target,
    name: str,
    chat_format: ChatFormat | None,
    *,
    prompts: Sequence[str] | None = None,
    expect: str | None = None,
    count_tokens: Callable[[str], int] | None = None,
) -> list[CheckResult]:
    """Test a model where it runs.

    Args:
        target: where it runs.
        name: the model.
        chat_format: the one of training, if it is known.
        prompts: questions, instead of the suite's own.
        expect: a case-insensitive regular expression that the first answer must contain.
        count_tokens: tokens of a prompt as in training, if they can be counted.
    """
    questions = list(prompts or PROMPTS)
    replies: list[Reply] = []

    def loads() -> Verdict:
        replies.append(target.chat(name, _user(questions[0]), OPTIONS))
        return True, f"answered by {target.engine} {target.version}"

    def answer() -> Verdict:
        replies.extend(target.chat(name, _user(question), OPTIONS) for question in questions[1:])
        expected = [expect] + [None] * (len(replies) - 1)
        for question, reply, wanted in zip(questions, replies, expected, strict=True):
            if wrong := wrong_answer(reply, wanted):
                return False, f"{quoted(question)}: {wrong}"
        return True, f"{questions[0]} → {quoted(replies[0].text)}"

    def stops() -> Verdict:
        wrong = wrong_end(replies)
        return not wrong, wrong or f"after {', '.join(str(reply.answer_tokens) for reply in replies)} tokens"

    def prompt() -> Verdict:
        rendered = _rendered(chat_format)
        if not chat_format or not rendered:
            return None, "there is no chat template to compare with"
        for label, (messages, expected) in rendered.items():
            if wrong := wrong_prompt(
                target.render(name, messages), expected, chat_format.special_tokens.get("bos_token")
            ):
                return False, f"{label}: {wrong}"
        return True, f"{len(rendered)} of {len(rendered)} conversations as in training{_refused(rendered)}"

    def tokens() -> Verdict:
        rendered = _rendered(chat_format)
        if not rendered:
            return None, "there is no chat template to compare with"
        if count_tokens is None:
            return None, "needs the checkpoint and pip install 'ollamaq[verify]'"
        for label, (messages, expected) in rendered.items():
            there = target.chat(name, messages, OPTIONS | {"num_predict": 1}).prompt_tokens
            if there != (training := count_tokens(expected)):
                return False, f"{label}: {there} tokens there, {training} in training"
        return True, f"{len(rendered)} of {len(rendered)} conversations as many as in training"

    first = _check("loads", loads)
    if not first.ok:
        return [first]
    rest = (("answer", answer), ("stops", stops), ("prompt", prompt), ("tokens", tokens))
    return [first, *(_check(label, run) for label, run in rest)]


def _check(name: str, run: Callable[[], Verdict]) -> CheckResult:
    started = time.monotonic()
    try:
        ok, detail = run()
    except OllamaqError as error:
        ok, detail = False, str(error)
    return CheckResult(name, ok, detail, time.monotonic() - started)


def _user(question: str) -> list[Message]:
    return [{"role": "user", "content": question}]


def _rendered(chat_format: ChatFormat | None) -> dict[str, tuple[Sequence[Message], str]]:
    """Each conversation that the template has a form for, and its prompt in training."""
    rendered: dict[str, tuple[Sequence[Message], str]] = {}
    for label, messages in CONVERSATIONS.items() if chat_format else ():
        try:
            assert chat_format is not None
            rendered[label] = messages, chat_format.render(messages)
        except TemplateRefuses:
            continue
    return rendered


def _refused(rendered: dict[str, tuple[Sequence[Message], str]]) -> str:
    count = len(CONVERSATIONS) - len(rendered)
    return f"; the template refuses {count}" if count else ""
