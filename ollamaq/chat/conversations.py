"""Conversations over which two renderings of a chat format are compared."""

from __future__ import annotations


def _chat(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


CONVERSATIONS: dict[str, list[dict[str, str]]] = {
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
