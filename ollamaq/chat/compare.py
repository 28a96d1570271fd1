"""Whether two forms of a chat format say the same, conversation by conversation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ollamaq.chat.conversations import Conversation
from ollamaq.chat.forms import Form
from ollamaq.chat.gotemplate import TemplateError
from ollamaq.chat.jinja import TemplateRefuses
from ollamaq.errors import OllamaqError, ServerError, ServerGone, UsageError
from ollamaq.modelfile.parser import read_bytes

EQUAL, DIFFERS, LIMIT, REFUSED = "equal", "differs", "Ollama's limit", "refused"
OWN_WAY = "llama.cpp's own way"
"""A prompt that differs by what llama.cpp's engine does with every chat template."""
GOES_ON = "it begins an answer that is to be gone on with in its own way"
ASCII = "it trims no white space but ASCII's"
TOLD = "told not to think, which training takes silence for"
OTHER_SPACE = re.compile("[^\\S \\t\\n\\r\\x0b\\x0c]")


@dataclass(frozen=True)
class Verdict:
    """``a`` and ``b`` are the prompts, or why there is none.

    ``why`` explains a limit or a refusal, or tells what had to be said for the prompts to be equal.
    """

    conversation: str
    verdict: str
    a: str
    b: str
    why: str = ""

    @property
    def offset(self) -> int:
        """The first character that differs."""
        pairs = enumerate(zip(self.a, self.b, strict=False))
        return next((at for at, (a, b) in pairs if a != b), min(len(self.a), len(self.b)))


def compare(a: Form, b: Form, conversations: Mapping[str, Conversation]) -> list[Verdict]:
    """A verdict for each conversation; a BOS that only one side writes is no difference, as Ollama adds it itself."""
    return [compared(a, b, name, conversation) for name, conversation in conversations.items()]


def compared(a: Form, b: Form, name: str, conversation: Conversation) -> Verdict:
    asked = conversation
    if a.thinks is not b.thinks:
        asked = as_asked(*((a, b) if a.thinks else (b, a)), conversation)
    (said, failed), (said_too, failed_too) = (
        _rendered(form, asked if form.thinks else conversation) for form in (a, b)
    )
    failures = {failed, failed_too} - {""}
    if failures:
        who = " and ".join(form.origin for form, by in ((a, failed), (b, failed_too)) if by)
        verdict = REFUSED if REFUSED in failures or (failed and failed_too) else DIFFERS
        return Verdict(name, verdict, said, said_too, f"no prompt of {who}")
    for bos in {form.bos for form in (a, b) if form.bos}:
        if said.startswith(bos) != said_too.startswith(bos):
            said, said_too = said.removeprefix(bos), said_too.removeprefix(bos)
    if said == said_too:
        return Verdict(name, EQUAL, said, said_too, TOLD if asked.think is False and conversation.think is None else "")
    return Verdict(name, *_explained(a, b, asked, said, said_too))


def as_asked(server: Form, trained: Form, conversation: Conversation) -> Conversation:
    """What is asked of a server that thinks where nobody says whether to: what training takes silence for."""
    if not server.thinks or conversation.think is not None:
        return conversation
    told = (replace(conversation, think=think) for think in (True, False))
    silent = _rendered(trained, conversation)
    return next((one for one in told if _rendered(trained, one) == silent), conversation)


def _rendered(form: Form, conversation: Conversation) -> tuple[str, str]:
    """The prompt, or why there is none and the verdict of that: a Go template can't refuse, only fail."""
    try:
        return form.render(conversation), ""
    except TemplateError as error:
        return str(error), DIFFERS
    except ServerGone:
        raise
    except ServerError as error:  # what the chat template refuses, llama.cpp does
        return str(error), REFUSED if "does not support" in str(error) else DIFFERS
    except (TemplateRefuses, OllamaqError) as error:
        return str(error), REFUSED


def _explained(a: Form, b: Form, conversation: Conversation, said: str, said_too: str) -> tuple[str, str, str, str]:
    """Verdict, prompts, and why no template could be rendered as in training: by what Ollama makes of it first."""
    if a.carrier and (not b.carrier or (a.language, b.language) == ("Go", "Jinja")):
        server, carrier, prompt, trained = a, a.carrier, said, b
    elif b.carrier and (not a.carrier or (a.language, b.language) == ("Jinja", "Go")):
        server, carrier, prompt, trained = b, b.carrier, said_too, a
    else:
        return DIFFERS, said, said_too, ""
    left, lost = carrier(conversation)
    meant, failed = _rendered(trained, left)
    meant, prompt = meant.removeprefix(trained.bos), prompt.removeprefix(trained.bos)
    if lost and (failed or meant == prompt):
        return LIMIT, said, said_too, " and ".join(lost)
    if server.native and (why := _own_way(trained, left, prompt)):
        return OWN_WAY, said, said_too, why
    return DIFFERS, said, said_too, ""


def _own_way(trained: Form, left: Conversation, prompt: str) -> str:
    """What llama.cpp does otherwise than Jinja with any template."""
    last = left.messages[-1]
    if last.get("role") == "assistant" and last.get("content") and prompt.rstrip().endswith(last["content"].rstrip()):
        return GOES_ON
    texts = [OTHER_SPACE.sub("\ue000", str(message.get("content") or "")) for message in left.messages]
    marked = [{**message, "content": text} for message, text in zip(left.messages, texts, strict=True)]
    meant, _ = _rendered(trained, replace(left, messages=marked))
    return ASCII if meant.removeprefix(trained.bos) == OTHER_SPACE.sub("\ue000", prompt) else ""


def read_chats(path: Path) -> dict[str, Conversation]:
    """Conversations of a JSONL file: each line an object with ``messages``, and maybe ``tools``, or just the messages.

    Raises:
        UsageError: a line is not that.
    """
    found = {}
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        if line.strip():
            found[f"{path.name}:{number}"] = _conversation(line, f"{path}, line {number}")
    if not found:
        raise UsageError(f"{path} has no conversations", next_step='write lines such as {"messages": […]}')
    return found


def _conversation(line: bytes, where: str) -> Conversation:
    try:
        given: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}", next_step="write one JSON object a line") from error
    given = {"messages": given} if isinstance(given, list) else given
    messages, tools = (given.get("messages"), given.get("tools")) if isinstance(given, dict) else (None, None)
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise UsageError(f"{where} has no list of messages", next_step='write lines such as {"messages": […]}')
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise UsageError(f"{where}: tools is no list of objects", next_step="write tools as Ollama's API takes them")
    calls = [message.get("tool_calls") or [] for message in messages]
    if not all(
        isinstance(some, list) and all(isinstance(c, dict) and isinstance(c.get("function"), dict) for c in some)
        for some in calls
    ):
        raise UsageError(f"{where}: a tool call has no function", next_step="write them as Ollama's API takes them")
    think = given.get("enable_thinking", given.get("think"))
    return Conversation(messages, tools, think if isinstance(think, bool) else None)
