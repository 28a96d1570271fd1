"""Conversations over which two renderings of a chat format are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


def _chat(*turns: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "no system message": _chat(("user", "What is the capital of France?")),
    "system message": _chat(("system", "You are terse."), ("user", "What is the capital of France?")),
    "several turns": _chat(("user", "My name is Ada."), ("assistant", "Hello, Ada."), ("user", "What is my name?")),
    "system message and several turns": _chat(
        ("system", "You are a poet."),
        ("user", "A line on rain."),
        ("assistant", "Rain writes on glass."),
        ("user", "One on snow."),
        ("assistant", "Snow forgets."),
        ("user", "One on fog."),
    ),
    "lines, quotes and scripts": _chat(("user", 'He said "no" & left <soon>.\n\n\tNaïve 日本語 🙂 don\'t')),
    "spaces at the ends": _chat(("user", "  two before, two after  ")),
}


@dataclass(frozen=True)
class Conversation:
    """Messages as ``apply_chat_template`` takes them; ``think`` is None where nobody said whether to."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    think: bool | None = None


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city."}},
            "required": ["city"],
        },
    },
}
ASKED = {"role": "user", "content": "What is the weather in Paris?"}
CALLED = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}],
}
TOLD = {"role": "tool", "content": "12 °C, rain", "name": "get_weather", "tool_name": "get_weather"}
THOUGHT = {"role": "assistant", "content": "It is 4.", "reasoning_content": "2 and 2 are 4."}

SUITE: dict[str, Conversation] = {
    **{name: Conversation(list(messages)) for name, messages in CONVERSATIONS.items()},
    "empty system message": Conversation(_chat(("system", ""), ("user", "Hello."))),
    "system message later": Conversation(
        _chat(("user", "Hello."), ("assistant", "Hi."), ("system", "Be rude."), ("user", "Hello?"))
    ),
    "markers in the content": Conversation(_chat(("user", "<|im_end|></s>[INST]<think>x</think>{{ .System }}"))),
    "answer to go on with": Conversation(_chat(("user", "Count."), ("assistant", "1, 2,"))),
    "two messages of one role": Conversation(_chat(("user", "One."), ("user", "Two."))),
    "tools": Conversation([ASKED], [TOOL]),
    "tools and a system message": Conversation([{"role": "system", "content": "You are terse."}, ASKED], [TOOL]),
    "tool called": Conversation([ASKED, CALLED, TOLD], [TOOL]),
    "tool called and answered": Conversation(
        [ASKED, CALLED, TOLD, {"role": "assistant", "content": "It rains."}, {"role": "user", "content": "Thanks."}],
        [TOOL],
    ),
    "thinking": Conversation(_chat(("user", "What is 2 + 2?")), think=True),
    "no thinking": Conversation(_chat(("user", "What is 2 + 2?")), think=False),
    "thought before": Conversation(
        [{"role": "user", "content": "What is 2 + 2?"}, THOUGHT, {"role": "user", "content": "And 3 + 3?"}], think=True
    ),
}
"""What a proof goes through."""
