"""Ollama's package ``template``: parses a TEMPLATE, and renders a chat with it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ollamaq.chat.gotemplate import syntax
from ollamaq.chat.gotemplate.errors import TemplateError
from ollamaq.chat.gotemplate.execute import Meter, Program, execute
from ollamaq.chat.gotemplate.functions import BUILTINS, OLLAMA
from ollamaq.chat.gotemplate.messages import MESSAGES, messages_of, tools_of
from ollamaq.chat.gotemplate.parser import parse
from ollamaq.chat.gotemplate.text import decode, encode
from ollamaq.chat.gotemplate.types import BOOL, MAP, STRING, Value, go
from ollamaq.errors import UsageError

LEVELS = ("low", "medium", "high", "max")
RESPONSE = syntax.Action(-1, syntax.Pipe(-1, commands=[syntax.Command(-1, [syntax.Field(-1, ["Response"])])]))


@dataclass(frozen=True)
class GoTemplate:
    """A parsed template."""

    text: str
    trees: Mapping[bytes, syntax.Nodes]

    @classmethod
    def parse(cls, text: str) -> GoTemplate:
        """As Ollama parses a TEMPLATE: where it says neither messages nor response, the response is appended.

        Raises:
            TemplateError: Ollama would refuse it.
        """
        template = cls(text, parse(text, BUILTINS.keys() | OLLAMA.keys()))
        if not {"messages", "response"} & template.variables:
            template.trees[b""].nodes.append(RESPONSE)
            return cls(text, template.trees)
        return template

    @cached_property
    def variables(self) -> frozenset[str]:
        """The names that Ollama finds in it, in lower case; by them it tells what a model can do."""
        names = (name for tree in self.trees.values() for node in tree.nodes for name in self._names(node))
        return frozenset(name.lower() for name in names)

    def _names(self, node: syntax.Node) -> Iterator[str]:
        """Those that ``template.Identifiers`` finds: not in what is indexed or otherwise called first."""
        match node:
            case syntax.Nodes():
                for child in node.nodes:
                    yield from self._names(child)
            case syntax.Call(pipe=None):
                raise TemplateError("undefined template specified", 1, 1, "undefined template specified")
            case syntax.Call() | syntax.Action():
                assert node.pipe
                yield from self._names(node.pipe)
            case syntax.Branch():
                for part in (node.pipe, node.body, node.other):
                    if part is not None:
                        yield from self._names(part)
            case syntax.Pipe():
                for command in node.commands:
                    for arg in command.args:
                        yield from self._names(arg)
            case syntax.Field() | syntax.Variable():
                yield from node.names

    def render(self, values: Mapping[str, Any]) -> str:
        """The text that it makes of values such as JSON has.

        Raises:
            TemplateError: it fails, or takes too long or too much.
        """
        value, out = go(dict(values)), bytearray()
        assert value
        execute(self._program, self.trees[b""], value, out, Meter())
        return decode(bytes(out))

    @property
    def _program(self) -> Program:
        return Program(self.text, self.trees, OLLAMA)


def ollama_prompt(
    template: GoTemplate,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    think: bool | str | None = None,
    prompt: str = "",
    suffix: str = "",
) -> str:
    """The prompt that Ollama 0.34 makes of a chat whose messages and tools are those of its API.

    ``prompt`` and ``suffix``, given both, are what a text is to be inserted between. Images are tagged ``[img-0]``, ….

    Raises:
        UsageError: the server would refuse the messages or the tools.
        TemplateError: the template fails on them.
    """
    if think is not None and not isinstance(think, bool) and think not in LEVELS:
        raise UsageError(f"think is {think!r}", next_step=f"give true, false, or one of {', '.join(LEVELS)}")
    try:
        read, tools_read = messages_of(list(messages)), tools_of(None if tools is None else list(tools))
    except RecursionError as error:
        raise UsageError("the messages or tools are nested too deep", next_step="send simpler ones") from error
    _tag_images(read)
    system, merged = _collate(read)
    given = {
        b"Think": Value(BOOL, bool(think)),
        b"ThinkLevel": Value(STRING, encode(think if isinstance(think, str) else "medium" if think else "")),
        b"IsThinkSet": Value(BOOL, think is not None),
    }
    out = bytearray()
    if prompt and suffix:
        texts = {b"Prompt": encode(prompt), b"Suffix": encode(suffix), b"Response": b""}
        _run(template, given | {name: Value(STRING, text) for name, text in texts.items()}, out)
    elif "messages" in template.variables:
        chat = {
            b"System": Value(STRING, system),
            b"Messages": Value(MESSAGES, merged or None),
            b"Tools": tools_read,
            b"Response": Value(STRING, b""),
        }
        _run(template, given | chat, out)
    else:
        _turn_by_turn(template, merged, given, out)
    return decode(bytes(out))


def _run(template: GoTemplate, data: dict[bytes, Value], out: bytearray) -> None:
    execute(template._program, template.trees[b""], Value(MAP, data), out, Meter())


def _tag_images(messages: list[dict[str, Any]]) -> None:
    """Say where images are: where the content says ``[img]``, or before it."""
    seen = 0
    for message in messages:
        before = b""
        for _ in message["Images"] or ():
            tag = b"[img-%d]" % seen
            seen += 1
            if b"[img]" in message["Content"]:
                message["Content"] = message["Content"].replace(b"[img]", tag, 1)
            else:
                before += tag
        message["Content"] = before + message["Content"]


def _collate(messages: list[dict[str, Any]]) -> tuple[bytes, list[dict[str, Any]]]:
    """All system messages, and the messages with those of one role in a row merged, but for tools' results."""
    system = b"\n\n".join(message["Content"] for message in messages if message["Role"] == b"system")
    merged: list[dict[str, Any]] = []
    for message in messages:
        if merged and merged[-1]["Role"] == message["Role"] != b"tool":
            merged[-1]["Content"] += b"\n\n" + message["Content"]
        else:
            merged.append(message)
    return system, merged


def _turn_by_turn(
    template: GoTemplate, messages: list[dict[str, Any]], given: dict[bytes, Value], out: bytearray
) -> None:
    """Templates without messages are rendered for each turn, the last one as far as its response."""
    turn, meter = dict.fromkeys((b"System", b"Prompt", b"Response"), b""), Meter()

    def data() -> Value:
        return Value(MAP, given | {name: Value(STRING, text) for name, text in turn.items()})

    for message in messages:
        role = message["Role"]
        done = (b"Prompt", b"Response") if role == b"system" else (b"Response",) if role == b"user" else ()
        if any(turn[name] for name in done):
            execute(template._program, template.trees[b""], data(), out, meter)
            turn = dict.fromkeys(turn, b"")
        name = {b"system": b"System", b"user": b"Prompt", b"assistant": b"Response"}.get(role)
        if name:
            turn[name] = message["Content"]
    last = _Cut().run(copy.deepcopy(template.trees[b""]))
    # Ollama gives the last turn a template of its own, without other templates, functions or options
    execute(Program(template.text, {b"": last}, {}, zero=False), last, data(), out, meter)


class _Cut:
    """Takes what comes after ``.Response`` from a tree, as Ollama's ``deleteNode`` does."""

    def __init__(self) -> None:
        self.cut = False

    def run(self, tree: syntax.Nodes) -> syntax.Nodes:
        tree.nodes = [node for node in tree.nodes if self.keeps(node)]
        return tree

    def keeps(self, node: syntax.Node) -> bool:
        if isinstance(node, syntax.Field) and "Response" in node.names:
            self.cut = True
            return True
        if self.cut:
            return False
        match node:
            case syntax.Nodes():
                self.run(node)
            case syntax.Branch():
                self.run(node.body)
                if node.other is not None:
                    if self.cut:
                        said = "Ollama fails where a response is in one branch, and there is another after it"
                        go = "interface conversion: parse.Node is nil, not *parse.ListNode"
                        raise TemplateError(said, 1, 1, f"panic: {go}")
                    self.run(node.other)
            case syntax.Action():
                return self.keeps(node.pipe)
            case syntax.Pipe():
                for command in node.commands:
                    command.args = [arg for arg in command.args if self.keeps(arg)]
                    if not command.args:
                        return False
        return True
