"""What models say, as their chat templates write it, and what Ollama's own packages make of that."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from go_program import GoProgram

from ollamaq.chat.conversations import (
    ASKED,
    BOTH,
    FOUR,
    KINDS_OF_ARGUMENT,
    PARIS,
    SEARCH,
    SUM,
    WEATHER,
    Conversation,
    Message,
    assistant,
    call,
    user,
)
from ollamaq.chat.forms import ollama_messages
from ollamaq.chat.jinja import ChatFormat, TemplateRefuses
from ollamaq.errors import OllamaqError

SUNNY = assistant("It is sunny.")
CASES: dict[str, tuple[Message, Message, list | None, bool]] = {
    "text": (ASKED, SUNNY, None, False),
    "text beside tools": (ASKED, SUNNY, [WEATHER], False),
    "call": (ASKED, PARIS, [WEATHER], False),
    "two calls": (ASKED, BOTH, [WEATHER], False),
    "arguments of every kind": (user("Search."), assistant("", call("search", KINDS_OF_ARGUMENT)), [SEARCH], False),
    "text and call": (ASKED, {**PARIS, "content": "Let me look."}, [WEATHER], False),
    "thought": (SUM, FOUR, None, True),
    "thought beside tools": (ASKED, {**SUNNY, "reasoning_content": "I know."}, [WEATHER], True),
    "thought and call": (ASKED, {**PARIS, "reasoning_content": "I must look."}, [WEATHER], True),
}
"""What is asked and answered, with which tools, and whether to think."""
MARK = re.compile(r"(<[^<>\s]{1,60}>|\[[A-Z_]+\])")
"""What is one token."""


@dataclass(frozen=True)
class Answer:
    case: str
    prompt: str
    text: str

    @property
    def pieces(self) -> list[str]:
        """As a server gets them: marks whole, and nothing in the end."""
        cut = [[part] if MARK.fullmatch(part) else re.findall("(?s).{1,3}", part) for part in MARK.split(self.text)]
        return [*(piece for pieces in cut for piece in pieces), ""]


class Reader(GoProgram):
    """Ollama's own packages, which warn of every answer that they cannot read."""

    NAME = "answers"
    LOG = subprocess.DEVNULL

    def __call__(self, answer: Answer, *, parser: str | None, template: str) -> dict:
        """The message that the server makes of an answer."""
        asked, _, tools, think = CASES[answer.case]
        return self.answer(
            {
                "parser": parser or "",
                "template": template,
                "messages": ollama_messages(Conversation([asked])),
                "tools": tools,
                "think": think,
                "prompt": answer.prompt,
                "pieces": answer.pieces,
            }
        )


def answers(chat_format: ChatFormat, *, thinks: bool) -> Iterator[Answer]:
    """Those that a chat template can write, thoughts and calls included."""
    for case, (asked, said, tools, think) in CASES.items():
        if think and not thinks:
            continue
        told = {"enable_thinking": think, "thinking": think} if thinks else {}
        try:
            prompt = chat_format.render([asked], tools=tools, **told)
            turns = [
                chat_format.render([asked, one], tools=tools, add_generation_prompt=False, **told)
                for one in (said, SUNNY)
            ]
        except (TemplateRefuses, OllamaqError):
            continue
        text = _without_end(turns[0][_begin(prompt, turns[0]) :], turns[1].rpartition(SUNNY["content"])[2])
        if all(part in text for part in parts_of(said)):
            yield Answer(case, prompt, text)


def parts_of(said: Message) -> list[str]:
    """What an answer must have: a template may leave thoughts and calls out."""
    return [said.get("reasoning_content", ""), *(c["function"]["name"] for c in said.get("tool_calls", ()))]


def as_said(case: str) -> dict:
    """What the server should make of it."""
    said = CASES[case][1]
    calls = [(c["function"]["name"], c["function"]["arguments"]) for c in said.get("tool_calls", ())]
    return {"content": said["content"], "thinking": said.get("reasoning_content", ""), "calls": calls}


def as_read(found: dict) -> dict:
    calls = [(c["function"]["name"], c["function"]["arguments"]) for c in found["calls"] or ()]
    return {"content": found["content"].strip(), "thinking": found["thinking"].strip(), "calls": calls}


def _begin(prompt: str, turn: str) -> int:
    """Where the answer begins: not within a mark that what the prompt ends with begins with as well."""
    pairs = enumerate(zip(prompt, turn, strict=False))
    at = next((at for at, (a, b) in pairs if a != b), len(prompt))
    opened = turn.rfind("<", 0, at)
    return opened if at < len(prompt) and opened > turn.rfind(">", 0, at) else at


def _without_end(text: str, end: str) -> str:
    """Without the token at which it stops."""
    return text.removesuffix(end) if text.endswith(end) else text.removesuffix(end.rstrip())
