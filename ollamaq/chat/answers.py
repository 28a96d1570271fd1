"""Which of Ollama's built-in parsers finds thoughts and calls of tools in the answers of a model.

Where it renders a TEMPLATE, Ollama looks for JSON behind the TEMPLATE's tags (`derive.tags`), and finds no other calls.
A PARSER finds those of one form, and replaces that search, for thoughts as well. What each of these reads is held to
Ollama's own package (``model/parsers``) by ``integration/test_answers.py``.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass

from ollamaq.chat.conversations import ASKED, SUM, TOOLS, WEATHER, Message, assistant, call
from ollamaq.chat.derive.tags import tool_tag
from ollamaq.chat.features import OPENING, THINKING, features, prompt_of
from ollamaq.chat.forms import Form

TOOL, KEY = "get_weather", "city"
CALLED, SAID = assistant("", {**call(TOOL, {KEY: "Paris"}), "id": "a1b2c3d4e"}), assistant("It is sunny.")
JSON = re.compile(r'\[?\s*\{\s*"name"\s*:\s*"' + TOOL)
"""What Ollama finds without a PARSER."""


@dataclass(frozen=True)
class Reader:
    """A PARSER, and how a call begins that it reads: NAME and KEY stand for names, a space for any white space.

    ``thinks``: it separates thoughts from answers, too; ``begun``: those of a prompt that begins one.
    """

    parser: str
    call: str
    thinks: bool = False
    begun: bool = False

    def reads(self, answer: str) -> bool:
        literal = re.escape(self.call).replace(r"\ ", r"\s*").replace("NAME", TOOL).replace("KEY", KEY)
        return re.search(literal, answer) is not None


READERS = (
    Reader("gemma4", "<|tool_call>call:NAME{KEY:", thinks=True),
    Reader("glm-4.7", "<tool_call>NAME <arg_key>KEY</arg_key>", thinks=True, begun=True),
    Reader("laguna", "<tool_call>NAME <arg_key>KEY</arg_key>", thinks=True),
    Reader("nemotron-3-nano", "<tool_call> <function=NAME> <parameter=KEY>", thinks=True, begun=True),
    Reader("qwen3-coder", "<tool_call> <function=NAME> <parameter=KEY>"),
    Reader("lfm2-thinking", "<|tool_call_start|>[NAME(KEY=", thinks=True),
    Reader("lfm2", "<|tool_call_start|>[NAME(KEY="),
    Reader("deepseek3", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{", thinks=True),
    Reader("ministral", "[TOOL_CALLS]NAME[ARGS]{"),
    Reader("cohere", '<|START_ACTION|> [ {"tool_call_id": "0", "tool_name": "NAME"', thinks=True, begun=True),
    Reader("glimmer", '<atem:invoke name="NAME"> <atem:parameter name="KEY">', thinks=True),
)
"""Best first."""
UNREAD = "Ollama finds no calls of tools in answers of this form"


@dataclass(frozen=True)
class Calls:
    """What finds the calls of tools in answers, if they are ``found``: the PARSER that is named, or the TEMPLATE."""

    parser: str | None = None
    found: bool = True


def calls_in_answers(form: Form, without: Container[str] = ()) -> Calls:
    """What finds those that a chat template writes, where a TEMPLATE with its prompts is rendered.

    There are none to find if that is ``without`` tools.
    """
    written = "" if TOOLS in without else _as_written(form, CALLED)
    if TOOL not in written or _is_json(form, written):
        return Calls()
    thinks = THINKING in features(form)
    begun = prompt_of(form, [SUM], think=True).rstrip().endswith(OPENING)
    fitting = (one for one in READERS if one.thinks is thinks and one.begun <= begun and one.reads(written))
    return next((Calls(one.parser) for one in fitting), Calls(found=False))


def _is_json(form: Form, written: str) -> bool:
    """Whether a call is JSON behind a tag, or at the beginning of an answer."""
    found = JSON.search(written)
    if not found or (form.chat_format and tool_tag(form.chat_format)):
        return found is not None
    before = _as_written(form, SAID).rpartition(SAID["content"])[0]
    return written[: found.start()].strip() == before.strip()


def _as_written(form: Form, answer: Message) -> str:
    """What a chat template makes of an answer, with what it puts around it."""
    return prompt_of(form, [ASKED, answer], [WEATHER], think=True).rpartition(ASKED["content"])[2]
