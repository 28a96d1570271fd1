"""A suite made of a fine-tune's own examples: JSONL as trainers take it (messages, ShareGPT, Alpaca)."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamaq.chat.jinja import ChatFormat, TemplateRefuses
from ollamaq.errors import ModelRefused, UsageError
from ollamaq.servers.target import Reply, Target, ToolCall, tool_calls
from ollamaq.smoke.answers import wrong_reply
from ollamaq.smoke.cases import OPTIONS

MAX_LINE = 1 << 22
MAX_TURNS = 1000
ROLES = {
    "human": "user",
    "gpt": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    **{role: role for role in ("user", "assistant", "system", "tool")},
}
"""ShareGPT's names of those who speak, and the usual ones."""
FORMATS = "messages, conversations (ShareGPT) or instruction and output (Alpaca)"


@dataclass(frozen=True)
class Example:
    """A conversation up to an answer of training, which is text or calls of ``tools``."""

    line: int
    messages: tuple[Mapping[str, Any], ...]
    answer: str
    tools: tuple[Mapping[str, Any], ...] = ()
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True)
class Recorded:
    """What to expect of an example: what a model answered, or, without one, the tool that training has called."""

    example: Example
    reply: Reply | None = None


def read_examples(path: Path) -> Iterator[Example]:
    """The examples of a JSONL file that end in an answer, read one by one.

    Raises:
        UsageError: it cannot be read, or a line is no example; names file and line.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise UsageError(f"{path}:{number} has more than {MAX_LINE >> 20} MiB", next_step="is this JSONL?")
                if line.strip():
                    yield _example(line, number, f"{path}:{number}")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", next_step="give a JSONL file") from error


def _example(line: bytes, number: int, where: str) -> Example:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}", next_step="write one example a line") from error
    messages = list(_messages(data, where)) if isinstance(data, dict) else []
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()
    calls = tool_calls(messages[-1]) if messages else ()
    if not 2 <= len(messages) <= MAX_TURNS or not (calls or messages[-1]["content"].strip()):
        raise UsageError(f"{where} is no example of an answer", next_step=f"give lines with {FORMATS}")
    return Example(number, tuple(messages[:-1]), messages[-1]["content"], tuple(_tools(data, where)), calls)


def _messages(data: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Messages as Ollama's API takes them, of whichever format they are."""
    if isinstance(system := data.get("system"), str) and system:
        yield {"role": "system", "content": system}
    if isinstance(turns := data.get("messages", data.get("conversations")), list):
        yield from (_message(turn, where) for turn in turns)
    elif isinstance(data.get("instruction"), str) and isinstance(data.get("output"), str):
        given = data.get("input")
        question = f"{data['instruction']}\n{given}" if isinstance(given, str) and given else data["instruction"]
        yield {"role": "user", "content": question}
        yield {"role": "assistant", "content": data["output"]}


def _message(turn: Any, where: str) -> dict[str, Any]:
    said = str(turn.get("role", turn.get("from"))) if isinstance(turn, dict) else ""
    content = turn.get("content", turn.get("value")) if said else None
    calls = turn.get("tool_calls") if said else None
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    if said not in ROLES or not isinstance(content, str | None if calls else str):
        who = f"of {said[:40]!r}" if said else "of nobody"
        raise UsageError(
            f"{where} has a turn {who} that is not text", next_step=f"leave the line out, or give lines with {FORMATS}"
        )
    if said == "function_call":
        content, calls = "", [{"function": _json(content, where)}]
    message: dict[str, Any] = {"role": ROLES[said], "content": content or ""}
    found = tool_calls({"tool_calls": calls})
    if calls and not found:
        raise UsageError(f"{where} has a call of no function", next_step="write calls as OpenAI's API has them")
    if found:
        message["tool_calls"] = [{"function": {"name": call.name, "arguments": dict(call.arguments)}} for call in found]
    return message


def _tools(data: Mapping[str, Any], where: str) -> Iterator[Mapping[str, Any]]:
    tools = data.get("tools") or []
    tools = _json(tools, where) if isinstance(tools, str) else tools
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise UsageError(f"{where}: tools is no list of objects", next_step="write them as OpenAI's API takes them")
    for tool in tools:
        yield tool if "function" in tool else {"type": "function", "function": tool}


def _json(text: Any, where: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{where}: {str(text)[:60]!r} is not JSON", next_step="write calls and tools as JSON"
        ) from error


def choose(examples: Iterable[Example], count: int) -> list[Example]:
    """``count`` examples, in their order: the same of the same file, and mostly the same when some are added."""

    def order(example: Example) -> bytes:
        text = json.dumps([*example.messages, example.answer], ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode(errors="surrogatepass")).digest()

    return sorted(heapq.nsmallest(count, examples, key=order), key=lambda example: example.line)


def fitting(examples: Iterable[Example], chat_format: ChatFormat) -> Iterator[Example]:
    """Those that a chat template has a form for."""
    for example in examples:
        try:
            chat_format.render(example.messages, tools=list(example.tools) or None)
        except (TemplateRefuses, ModelRefused):
            continue
        yield example


def record(target: Target, name: str, examples: Iterable[Example]) -> list[Recorded]:
    """What a model answers today, greedily, without the examples that it answers with nothing, marks or a loop."""
    recorded = []
    for example in examples:
        more = {"tools": list(example.tools)} if example.tools else {}
        reply = target.chat(name, example.messages, OPTIONS, **more)
        if not wrong_reply(reply, {"stops": False}, []):
            recorded.append(Recorded(example, reply))
    return recorded


def suite_text(recorded: Sequence[Recorded], source: str, tolerance: float) -> str:
    """A ``smoke.toml``: each example is asked, must be answered and end; where a model was asked, as it answered."""
    lines = [f"# made of {len(recorded)} examples of {_toml(source)}"]
    for one in recorded:
        example, reply = one.example, one.reply
        lines += ["", "[[case]]", f"name = {_toml(f'line {example.line}')}", "messages = ["]
        lines += [f"  {_toml(message)}," for message in example.messages]
        lines += ["]"]
        if example.tools:
            lines += [f"tools = {_toml(example.tools)}"]
        calls = reply.tool_calls if reply else example.calls
        if calls:
            arguments = {"arguments": calls[0].arguments} if reply and calls[0].arguments else {}
            lines += [f"tool_call = {_toml({'name': calls[0].name, **arguments})}"]
        elif reply:
            lines += [f"baseline = {_toml(reply.text)}", f"tolerance = {tolerance}"]
        if reply and reply.done_reason != "stop":
            lines += ["stops = false"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A value of TOML. JSON's escapes are TOML's too, but for half a character, which is replaced; null is left out."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_toml(str(k))} = {_toml(v)}' for k, v in value.items() if v is not None)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value if item is not None)}]"
    if not isinstance(value, str):
        return json.dumps(value)
    whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return json.dumps(whole, ensure_ascii=False).replace("\x7f", "\\u007f")
