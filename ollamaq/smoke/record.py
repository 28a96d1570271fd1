"""A suite made of a fine-tune's own examples: JSONL as trainers take it (messages, ShareGPT, Alpaca)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamaq.errors import UsageError
from ollamaq.servers.target import Target
from ollamaq.smoke.cases import OPTIONS

MAX_BYTES = 1 << 30
MAX_LINE = 1 << 22
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
"""ShareGPT's names of those who speak, and the usual ones."""
FORMATS = "messages, conversations (ShareGPT) or instruction and output (Alpaca)"


@dataclass(frozen=True)
class Example:
    """A conversation up to an answer of training, and that answer."""

    line: int
    messages: tuple[Mapping[str, str], ...]
    answer: str


def read_examples(path: Path) -> Iterator[Example]:
    """The examples of a JSONL file that end in an answer.

    Raises:
        UsageError: it cannot be read, or a line is no example; names file and line.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} has more than 1 GiB", next_step="give a part of it")
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise UsageError(f"{path}:{number} has more than 4 MiB", next_step="is this JSONL?")
                if line.strip():
                    yield _example(line, number, f"{path}:{number}")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", next_step="give a JSONL file") from error


def _example(line: bytes, number: int, where: str) -> Example:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}", next_step="write one example a line") from error
    messages = list(_messages(data)) if isinstance(data, dict) else []
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()
    if len(messages) < 2 or not messages[-1]["content"].strip():
        raise UsageError(f"{where} is no example of an answer", next_step=f"give lines with {FORMATS}")
    return Example(number, tuple(messages[:-1]), messages[-1]["content"])


def _messages(data: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Roles and texts, of whichever format it is."""
    if isinstance(turns := data.get("messages", data.get("conversations")), list):
        for turn in turns:
            if isinstance(turn, dict):
                role = ROLES.get(str(turn.get("role", turn.get("from"))))
                content = turn.get("content", turn.get("value"))
                if role and isinstance(content, str):
                    yield {"role": role, "content": content}
    elif isinstance(data.get("instruction"), str) and isinstance(data.get("output"), str):
        if isinstance(system := data.get("system"), str) and system:
            yield {"role": "system", "content": system}
        given = data.get("input")
        question = f"{data['instruction']}\n{given}" if isinstance(given, str) and given else data["instruction"]
        yield {"role": "user", "content": question}
        yield {"role": "assistant", "content": data["output"]}


def choose(examples: Sequence[Example], count: int) -> list[Example]:
    """``count`` examples: the same of the same file, and spread over it."""

    def order(example: Example) -> bytes:
        text = json.dumps([*example.messages, example.answer], ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode(errors="surrogatepass")).digest()

    return sorted(sorted(examples, key=order)[:count], key=lambda example: example.line)


def baselines(target: Target, name: str, examples: Sequence[Example]) -> list[str]:
    """What a model answers today, greedily."""
    return [target.chat(name, example.messages, OPTIONS).text for example in examples]


def suite_text(examples: Sequence[Example], source: str, answers: Sequence[str] | None, tolerance: float) -> str:
    """A ``smoke.toml``: each example is asked, must be answered and end; with ``answers``, as before."""
    lines = [f"# made of {len(examples)} examples of {source}"]
    for i, example in enumerate(examples):
        lines += ["", "[[case]]", f"name = {_toml(f'line {example.line}')}", "messages = ["]
        lines += [
            f"  {{ role = {_toml(message['role'])}, content = {_toml(message['content'])} }},"
            for message in example.messages
        ]
        lines += ["]"]
        if answers:
            lines += [f"baseline = {_toml(answers[i])}", f"tolerance = {tolerance}"]
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    """A basic string of TOML: JSON's escapes are TOML's too, but for half a character, which is replaced."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return json.dumps(whole, ensure_ascii=False).replace("\x7f", "\\u007f")
