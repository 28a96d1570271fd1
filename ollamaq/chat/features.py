"""What a chat template can do, found by rendering conversations that differ in one thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ollamaq.chat.conversations import (
    WEATHER,
    Conversation,
    Message,
    assistant,
    call,
    result,
    system,
    user,
)
from ollamaq.chat.forms import Form
from ollamaq.chat.jinja import TemplateRefuses
from ollamaq.errors import OllamaqError

SYSTEM, TOOLS, CALLS, RESULTS = "system", "tools", "tool calls", "tool results"
THINKING, THOUGHTS, PREFILL, DATE = "thinking", "earlier thoughts", "prefill", "date"
FEATURES = (SYSTEM, TOOLS, CALLS, RESULTS, THINKING, THOUGHTS, PREFILL, DATE)
MARK = "Qz7"
"""Appears in a prompt only where a template puts it."""
ASKED, TOLD = user("Question?"), assistant("Answer.")
CALLED = assistant("", {**call(f"{MARK}call", {"city": "Paris"}), "id": "a1b2c3d4e"})
ANSWERED = {**result(f"{MARK}result", f"{MARK}call"), "tool_call_id": "a1b2c3d4e"}
OPENING = ("<think>", "<|channel>thought", "<|START_THINKING|>", "[THINK]", "<seed:think>", "<thought>")


def features(form: Form) -> tuple[str, ...]:
    """Those of `FEATURES` that a chat template in Jinja has."""
    found = {
        SYSTEM: MARK in prompt_of(form, [system(MARK), ASKED]),
        TOOLS: MARK in prompt_of(form, [ASKED], [_tool()]),
        CALLS: f"{MARK}call" in prompt_of(form, [ASKED, CALLED, ANSWERED], [_tool("other")]),
        RESULTS: f"{MARK}result" in prompt_of(form, [ASKED, CALLED, ANSWERED], [_tool("other")]),
        THINKING: _thinks(form),
        THOUGHTS: MARK in prompt_of(form, [ASKED, assistant("Answer.", thought=MARK), ASKED], think=True),
        PREFILL: prompt_of(form, [ASKED, assistant(MARK)]).endswith(MARK),
        DATE: "strftime_now" in form.text or "date_string" in form.variables,
    }
    return tuple(feature for feature in FEATURES if found[feature])


def _thinks(form: Form) -> bool:
    """Whether it can be told to think, opens a thought by itself, shows one, or takes one out of an answer."""
    plain, told, not_told = (prompt_of(form, [ASKED], think=think) for think in (None, True, False))
    if told != not_told or plain.rstrip().endswith(OPENING):
        return True
    thought = prompt_of(form, [ASKED, assistant("Answer.", thought=MARK)], think=True)
    inside = prompt_of(form, [ASKED, assistant(f"<think>{MARK}</think>Answer."), ASKED])
    return MARK in thought or ("Answer." in inside and MARK not in inside)


def _tool(name: str = MARK) -> dict[str, Any]:
    return {**WEATHER, "function": {**WEATHER["function"], "name": name}}


def prompt_of(
    form: Form, messages: Sequence[Message], tools: list[dict[str, Any]] | None = None, *, think: bool | None = None
) -> str:
    """The prompt of a chat; empty where there is none."""
    try:
        return form.render(Conversation(list(messages), tools, think))
    except (TemplateRefuses, OllamaqError):
        return ""
