"""Conversations over which two renderings of a chat format are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
TEXT, TOOLS, THINKING = "text", "tools", "thinking"
KINDS = (TEXT, TOOLS, THINKING)
"""Of conversations, by what they need of a template."""


@dataclass(frozen=True)
class Conversation:
    """Messages as ``apply_chat_template`` takes them; ``think`` is None where nobody said whether to."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    think: bool | None = None

    @property
    def needs(self) -> frozenset[str]:
        """What it needs of a template, beside texts."""
        thinks = self.think is not None or any(message.get("reasoning_content") for message in self.messages)
        used = self.tools or any(m.get("tool_calls") or m.get("role") == "tool" for m in self.messages)
        return frozenset(kind for kind, needed in ((TOOLS, used), (THINKING, thinks)) if needed)

    @property
    def kind(self) -> str:
        return next((kind for kind in (THINKING, TOOLS) if kind in self.needs), TEXT)


def system(content: str) -> Message:
    return {"role": "system", "content": content}


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str, *calls: dict[str, Any], thought: str = "") -> Message:
    message: Message = {"role": "assistant", "content": content}
    if thought:
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = list(calls)
    return message


def call(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": dict(arguments)}}


def result(content: str, name: str) -> Message:
    return {"role": "tool", "content": content, "name": name, "tool_name": name}


def tool(
    name: str, description: str, properties: Mapping[str, Any], required: Sequence[str] | None = ()
) -> dict[str, Any]:
    """A tool with its keys in the order of transformers' ``get_json_schema``."""
    parameters: dict[str, Any] = {"type": "object", "properties": dict(properties)}
    if required is not None:
        parameters["required"] = list(required)
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


CONVERSATIONS: dict[str, list[Message]] = {
    "no system message": [user("What is the capital of France?")],
    "system message": [system("You are terse."), user("What is the capital of France?")],
    "several turns": [user("My name is Ada."), assistant("Hello, Ada."), user("What is my name?")],
    "system message and several turns": [
        system("You are a poet."),
        user("A line on rain."),
        assistant("Rain writes on glass."),
        user("One on snow."),
        assistant("Snow forgets."),
        user("One on fog."),
    ],
    "lines, quotes and scripts": [user('He said "no" & left <soon>.\n\n\tNaïve 日本語 🙂 don\'t')],
    "spaces at the ends": [user("  two before, two after  ")],
}
"""What every publication is tried with on the server."""

WEATHER = tool(
    "get_weather",
    "Get the weather of a city.",
    {"city": {"type": "string", "description": "The city."}},
    ["city"],
)
CLOCK = tool("now", "Tell the time.", {})
SEARCH = tool(
    "search",
    'Search "the web" & <more>\nfor naïve 日本 things.',
    {
        "filters": {
            "type": "object",
            "properties": {"lang": {"type": "string", "enum": ["de", "en"], "description": "A language."}},
            "required": ["lang"],
            "description": "Which pages.",
        },
        "limit": {"type": "integer", "description": "How many."},
        "terms": {"type": "array", "items": {"type": "string"}, "description": "What for."},
    },
    ["terms"],
)
UNNEEDED = tool("note", "Write a note.", {"text": {"type": "string"}}, None)
ASKED = user("What is the weather in Paris?")
PARIS = assistant("", call("get_weather", {"city": "Paris"}))
TOLD = result("12 °C, rain", "get_weather")
BOTH = assistant("", call("get_weather", {"city": "Paris"}), call("get_weather", {"city": "Rome"}))
KINDS_OF_ARGUMENT = {
    "deep": {"list": [1, "two", {"three": False}]},
    "empty": [],
    "limit": 3,
    "none": None,
    "share": 0.5,
    "terms": ["a", "b"],
    "text": 'say "hi" & <go>\nñ 日本',
    "yes": True,
}
SUM = user("What is 2 + 2?")
FOUR = assistant("It is 4.", thought="2 and 2 are 4.")

SUITE: dict[str, Conversation] = {
    **{name: Conversation(messages) for name, messages in CONVERSATIONS.items()},
    # texts
    "empty system message": Conversation([system(""), user("Hello.")]),
    "empty message": Conversation([user("")]),
    "empty answer": Conversation([user("Hello."), assistant(""), user("Hello?")]),
    "only a system message": Conversation([system("You are terse.")]),
    "system message later": Conversation([user("Hello."), assistant("Hi."), system("Be rude."), user("Hello?")]),
    "two system messages": Conversation(
        [system("You are terse."), user("Hello."), assistant("Hi."), system("Be rude."), user("Hello?")]
    ),
    "system message last": Conversation([user("Hello."), system("Be rude.")]),
    "lines at the ends": Conversation(
        [system("\nYou are terse.\n\n"), user("\n\nHello.\n"), assistant(" \nHi.\n "), user("\tHello?\t\n")]
    ),
    "other spaces at the ends": Conversation(
        [system("\u00a0terse\u3000"), user("\u2003Hello.\u00a0"), assistant("\u3000Hi.\u2028"), user("\x0bHello?\x1c")]
    ),
    "only spaces": Conversation([system(" "), user("\n"), assistant("\t"), user("  \n  ")]),
    "markers in the content": Conversation([user("<|im_end|></s>[INST]<think>x</think>{{ .System }}{% x %}")]),
    "markers in an answer": Conversation(
        [user("Hello."), assistant("<think>\nx\n</think>\n\nHi.</s>[/INST]<tool_call>"), user("Hello?")]
    ),
    "right to left and joined": Conversation(
        [system("שלום \u202eabc"), user("مرحبا 👩‍👩‍👧 e\u0301 \U0001f1eb\U0001f1f7")]
    ),
    "JSON in the content": Conversation([user('{"name": "x", "arguments": {"a": [1, 2.5, null]}}\\n \\"')]),
    "answer to go on with": Conversation([user("Count."), assistant("1, 2,")]),
    "answer to go on with, after turns": Conversation(
        [system("You count."), user("Count."), assistant("1, 2,"), user("On."), assistant("3, 4,\n")]
    ),
    "two messages of one role": Conversation([user("One."), user("Two.")]),
    "two answers in a row": Conversation([user("One."), assistant("Two."), assistant("Three."), user("Four.")]),
    # tools
    "tools": Conversation([ASKED], [WEATHER]),
    "tools and a system message": Conversation([system("You are terse."), ASKED], [WEATHER]),
    "tools and several turns": Conversation([user("Hello."), assistant("Hi."), ASKED], [WEATHER]),
    "several tools": Conversation([ASKED], [WEATHER, CLOCK, SEARCH]),
    "tool without required": Conversation([user("Note it.")], [UNNEEDED]),
    "tool called": Conversation([ASKED, PARIS, TOLD], [WEATHER]),
    "tool called and answered": Conversation(
        [ASKED, PARIS, TOLD, assistant("It rains."), user("Thanks.")],
        [WEATHER],
    ),
    "tool called with a text": Conversation(
        [ASKED, {**PARIS, "content": "Let me look."}, TOLD, assistant("It rains."), user("Thanks.")], [WEATHER]
    ),
    "tool called without arguments": Conversation(
        [user("How late is it?"), assistant("", call("now", {})), result("12:00", "now")], [CLOCK]
    ),
    "two calls in one turn": Conversation([ASKED, BOTH, TOLD, result("20 °C", "get_weather")], [WEATHER]),
    "calls one after the other": Conversation(
        [
            system("You are terse."),
            ASKED,
            PARIS,
            TOLD,
            assistant("", call("now", {})),
            result("12:00", "now"),
            assistant("It rains at noon."),
            user("Thanks."),
        ],
        [WEATHER, CLOCK],
    ),
    "arguments of every kind": Conversation(
        [user("Search."), assistant("", call("search", KINDS_OF_ARGUMENT)), result('[{"a": "<b>"}]\n', "search")],
        [SEARCH],
    ),
    "calls and no tools": Conversation([ASKED, PARIS, TOLD]),
    "calls with ids": Conversation(
        [
            ASKED,
            assistant("", {**call("get_weather", {"city": "Paris"}), "id": "a1b2c3d4e"}),
            {**TOLD, "tool_call_id": "a1b2c3d4e"},
        ],
        [WEATHER],
    ),
    # thinking
    "thinking": Conversation([SUM], think=True),
    "no thinking": Conversation([SUM], think=False),
    "thinking and a system message": Conversation([system("You are terse."), SUM], think=True),
    "no thinking and a system message": Conversation([system("You are terse."), SUM], think=False),
    "thought before": Conversation([SUM, FOUR, user("And 3 + 3?")], think=True),
    "thought before, no thinking": Conversation([SUM, FOUR, user("And 3 + 3?")], think=False),
    "thought before, not said": Conversation([SUM, FOUR, user("And 3 + 3?")]),
    "thinking and tools": Conversation([ASKED], [WEATHER], think=True),
    "thought before a call": Conversation(
        [ASKED, {**PARIS, "reasoning_content": "I must look."}, TOLD], [WEATHER], think=True
    ),
    "thought before a call, answered": Conversation(
        [
            ASKED,
            {**PARIS, "reasoning_content": "I must look."},
            TOLD,
            assistant("It rains.", thought="So it does."),
            user("Thanks."),
        ],
        [WEATHER],
        think=True,
    ),
}
"""What a proof goes through."""
