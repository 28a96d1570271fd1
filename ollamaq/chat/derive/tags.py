"""The tags around thoughts and before tool calls, put where Ollama looks for them in a TEMPLATE.

``thinking/template.go`` takes the texts next to the last ``.Thinking``, ``tools/template.go`` the text after the first
``if .ToolCalls``; what says so here is never rendered.
"""

from __future__ import annotations

import re
from collections.abc import Container

from ollamaq.chat.compare import DIFFERS, EQUAL, REFUSED, compare
from ollamaq.chat.conversations import ASKED, SUITE, WEATHER, Message, assistant, call
from ollamaq.chat.forms import go_form, jinja_form
from ollamaq.chat.gotemplate import GoTemplate
from ollamaq.chat.jinja import ChatFormat, TemplateRefuses
from ollamaq.chat.selection import THINKING, TOOLS, claims_of_jinja
from ollamaq.errors import OllamaqError

WITH_TOOLS = {name: chat for name, chat in SUITE.items() if chat.kind == TOOLS}
THOUGHT, SAID = "T0ught", "S4id"
TAG = r"(<[^<>\s{}]{1,40}>|\[[^\[\]\s{}]{1,40}\])"
ANSWERED = '(eq .Role "tool")'
"""Without this in a TEMPLATE with tools, Ollama 0.30 prefers the GGUF's chat template that has it."""
TOOLS_LINE = "{{{{ range .Messages }}}}{{{{ if and false {} }}}}{}{{{{ end }}}}{{{{ end }}}}"
THINKING_LINE = (
    "{{{{ range .Messages }}}}{{{{ if and false .Thinking }}}}{}{{{{ .Thinking }}}}{}{{{{ end }}}}{{{{ end }}}}"
)


def tagged(template: str, chat_format: ChatFormat, without: Container[str]) -> str:
    """A TEMPLATE that tells Ollama the tags that a chat template writes, but for features that it is without.

    It ends with a line of its own, which is not rendered.
    """
    tag = "" if "tools" in without else tool_tag(chat_format)
    tags = None if "thinking" in without else think_tags(chat_format) or _claimed(chat_format)
    if {"tools", "toolcalls"} <= GoTemplate.parse(template).variables:
        template = _first(TOOLS_LINE.format(f".ToolCalls {ANSWERED}" if tag else ANSWERED, tag), template)
    elif "tools" not in without and _tools_are_claimed(template, chat_format):
        template = _first(TOOLS_LINE.format(f"$.Tools .ToolCalls {ANSWERED}", tag), template)
    if "messages" not in GoTemplate.parse(template).variables:  # without, Ollama renders turn by turn
        template = "{{ range .Messages }}{{ end }}" + template
    template = template + THINKING_LINE.format(*tags) if tags else template
    return (template.removesuffix(" }}") if template.endswith(" }}") else template + '{{ ""') + " -}}\n"


def _first(line: str, template: str) -> str:
    return line + ("\n" if template.startswith("{{-") else "") + template


def _tools_are_claimed(template: str, chat_format: ChatFormat) -> bool:
    """Whether Ollama believes that a chat template takes tools, and would not use a TEMPLATE that says it does not.

    The TEMPLATE says so if its prompts of conversations with tools are the chat template's, be it that both have none.
    """
    if TOOLS not in claims_of_jinja(chat_format.template):
        return False
    jinja, go = jinja_form("chat template", chat_format), go_form("TEMPLATE", template)
    verdicts = {found.verdict for found in compare(jinja, go, WITH_TOOLS)}
    return EQUAL in verdicts and not verdicts & {DIFFERS, REFUSED}


def tool_tag(chat_format: ChatFormat) -> str:
    """What precedes the JSON of a tool call."""
    called = {**call("get_weather", {"city": "Paris"}), "id": "a1b2c3d4e"}
    answered = _rendered(chat_format, assistant("", called)).rpartition(ASKED["content"])[2]
    before, *found = re.split(r'\[?\s*\{\s*"name"\s*:\s*"get_weather"', answered)
    return _before(before, chat_format) if found else ""


def think_tags(chat_format: ChatFormat) -> tuple[str, str] | None:
    """What surrounds a thought."""
    before, _, after = _rendered(chat_format, assistant(SAID, thought=THOUGHT)).partition(THOUGHT)
    opening = _before(before, chat_format)
    closing = re.match(rf"\s*{TAG}", after)
    return (opening, closing[1]) if opening and closing else None


def _claimed(chat_format: ChatFormat) -> tuple[str, str] | None:
    """The tags that make Ollama believe that a chat template thinks; a TEMPLATE without them would not be used."""
    return ("<think>", "</think>") if THINKING in claims_of_jinja(chat_format.template) else None


def _before(text: str, chat_format: ChatFormat) -> str:
    """The tag at the end of a text, if it is not just what precedes every answer."""
    plain = _rendered(chat_format, assistant(SAID)).partition(SAID)[0]
    tag = re.search(rf"{TAG}\s*$", text)
    return tag[1] if tag and not plain.rstrip().endswith(tag[1]) else ""


def _rendered(chat_format: ChatFormat, answer: Message) -> str:
    try:
        return chat_format.render(
            [ASKED, answer], tools=[WEATHER], add_generation_prompt=False, enable_thinking=True, thinking=True
        )
    except (TemplateRefuses, OllamaqError):
        return ""
