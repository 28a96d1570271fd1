"""What is left of a conversation once Ollama's API has carried it to a template.

To a Go TEMPLATE (``template.go``, ``api/types.go``), to a RENDERER, or to the GGUF's own chat template, by way of
llama.cpp (``llm/llama_server.go``). A prompt that differs only because of that is Ollama's limit, whatever renders it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ollamaq.chat.conversations import Conversation, Message
from ollamaq.chat.jinja import REASONING

KEPT = (
    "role",
    "content",
    "reasoning_content",
    "thinking",
    "reasoning",
    "tool_calls",
    "tool_call_id",
    "name",
    "tool_name",
)
FUNCTION = ("name", "description", "parameters")
MERGED = "it merges messages of one role in a row"
SORTED = "it sorts the arguments of tool calls and the parameters of tools"
REORDERED = "it does not keep the order of a tool's keys"
DROPPED = "it drops keys of tools that it does not know"
NUMBERS = "it writes whole numbers without a fraction"
FORGOTTEN = "it does not hand earlier thoughts to a chat template"
UNSAID = "it has a model that can think do so, unless told not to"

Carrier = Callable[[Conversation], tuple[Conversation, list[str]]]


@dataclass(frozen=True)
class Order:
    """The keys of tools that are known, in the order in which a template finds them; whether parameters are sorted."""

    parameters: tuple[str, ...]
    property: tuple[str, ...]
    sorted: bool


TO_TEMPLATE = Order(
    ("type", "properties", "required"),
    ("anyOf", "type", "items", "properties", "required", "enum", "description"),
    sorted=True,
)
"""As a derived TEMPLATE writes them, which cannot see an order."""
TO_JINJA = Order(
    ("type", "$defs", "items", "required", "properties"),
    ("anyOf", "type", "items", "description", "enum", "properties", "required"),
    sorted=False,
)
"""As the server writes them (the fields of ``api.Tool``)."""


TO_OLD_TEMPLATE = replace(TO_TEMPLATE, property=tuple(key for key in TO_TEMPLATE.property if key != "required"))
"""Before 0.30: at least up to 0.17.4 ``api.ToolProperty`` has no field for it, and asking for one is an error."""


def carried(conversation: Conversation) -> tuple[Conversation, list[str]]:
    """The conversation as a TEMPLATE is given it, and what was lost."""
    return _carried(conversation, TO_TEMPLATE)


def carried_before(conversation: Conversation) -> tuple[Conversation, list[str]]:
    """As `carried`, by a server before 0.30."""
    return _carried(conversation, TO_OLD_TEMPLATE)


def _carried(conversation: Conversation, order: Order) -> tuple[Conversation, list[str]]:
    lost: list[str] = []
    messages: list[Message] = []
    for message in conversation.messages:
        message = _message(message, lost)
        if messages and messages[-1]["role"] == message["role"] != "tool":
            _note(lost, MERGED)
            before = messages[-1]
            messages[-1] = {**before, "content": f"{before.get('content') or ''}\n\n{message.get('content') or ''}"}
        else:
            messages.append(message)
    tools = conversation.tools
    if tools is not None:
        tools = [_tool(tool, order, lost) for tool in tools]
    return Conversation(messages, tools, conversation.think), lost


def carried_to_renderer(conversation: Conversation) -> tuple[Conversation, list[str]]:
    """The conversation as a RENDERER is given it, and what was lost."""
    lost: list[str] = []
    messages = [_message(message, lost, keep_order=True) for message in conversation.messages]
    return replace(conversation, messages=messages, tools=_tools(conversation, lost)), lost


def carried_to_jinja(conversation: Conversation) -> tuple[Conversation, list[str]]:
    """The conversation as the server hands it to the GGUF's own chat template, and what was lost."""
    lost: list[str] = []
    messages: list[Message] = []
    for message in conversation.messages:
        told = {key: message[key] for key in ("role",) if key in message} | {"content": message.get("content") or ""}
        if message.get("tool_name"):
            told["name"] = message["tool_name"]
        told |= {key: message[key] for key in ("tool_call_id", "tool_calls") if message.get(key)}
        if any(message.get(key) for key in REASONING):
            _note(lost, FORGOTTEN)
        messages.append(_message(told, lost, keep_order=True))
    return replace(conversation, messages=messages, tools=_tools(conversation, lost)), lost


def _tools(conversation: Conversation, lost: list[str]) -> list[dict[str, Any]] | None:
    """Tools in the order in which the server writes them."""
    return None if conversation.tools is None else [_tool(tool, TO_JINJA, lost) for tool in conversation.tools]


def llama_request(
    messages: Sequence[Mapping[str, Any]], tools: list[dict[str, Any]] | None = None, think: bool | None = None
) -> dict[str, Any]:
    """The body in which the server hands a conversation to llama.cpp."""
    left, _ = carried_to_jinja(Conversation([dict(message) for message in messages], tools))
    for message in left.messages:
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
            call.setdefault("type", "function")
    body: dict[str, Any] = {"messages": left.messages}
    if left.tools:
        body["tools"] = left.tools
    if think is not None:
        body["chat_template_kwargs"] = {"enable_thinking": think}
    return body


def with_thinking(carrier: Carrier) -> Carrier:
    """That of a server whose model can think: where nobody says whether to, it does."""

    def carry(conversation: Conversation) -> tuple[Conversation, list[str]]:
        left, lost = carrier(conversation)
        if conversation.think is None:
            left, lost = replace(left, think=True), [*lost, UNSAID]
        return left, lost

    return carry


def _note(lost: list[str], what: str) -> None:
    if what not in lost:
        lost.append(what)


def _message(message: Message, lost: list[str], *, keep_order: bool = False) -> Message:
    kept = {key: value for key, value in message.items() if key in KEPT}
    calls = []
    for call in message.get("tool_calls") or ():
        function = call.get("function", {})
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping):
            arguments = _number(arguments, lost, keep_order=keep_order)
        calls.append({**call, "function": {**function, "arguments": arguments}})
    return {**kept, "tool_calls": calls} if calls else kept


def _number(value: Any, lost: list[str], *, keep_order: bool = False) -> Any:
    """A value of JSON after Go has read it: objects sorted (but for the outermost, maybe), and numbers as floats."""
    match value:
        case float() if value.is_integer() and abs(value) < 1e21:
            _note(lost, NUMBERS)
            return int(value)
        case list():
            return [_number(item, lost) for item in value]
        case Mapping():
            items = value if keep_order else _sorted(value, lost)
            return {key: _number(item, lost) for key, item in items.items()}
    return value


def _sorted(mapping: Mapping[str, Any], lost: list[str]) -> dict[str, Any]:
    if list(mapping) != sorted(mapping):
        _note(lost, SORTED)
    return {key: mapping[key] for key in sorted(mapping)}


def _picked(mapping: Mapping[str, Any], keys: tuple[str, ...], lost: list[str]) -> dict[str, Any]:
    """The keys that Ollama knows, in the order of `keys`."""
    known = [key for key in keys if mapping.get(key) is not None]
    if any(key not in keys for key in mapping):
        _note(lost, DROPPED)
    if [key for key in mapping if key in known] != known:
        _note(lost, REORDERED)
    return {key: mapping[key] for key in known}


def _tool(tool: Mapping[str, Any], order: Order, lost: list[str]) -> dict[str, Any]:
    made = _picked(tool, ("type", "function"), lost)
    function = _picked(made.get("function") or {}, FUNCTION, lost)
    if not function.get("description"):
        function.pop("description", None)
    parameters = {"type": "", "properties": {}} | _picked(function.get("parameters") or {}, order.parameters, lost)
    parameters["properties"] = _properties(parameters["properties"], order, lost)
    if not order.sorted and not parameters.get("required"):
        parameters.pop("required", None)
    parameters = {key: parameters[key] for key in order.parameters if key in parameters}
    return {**made, "function": {**function, "parameters": parameters}}


def _properties(properties: Mapping[str, Any], order: Order, lost: list[str]) -> dict[str, Any]:
    ordered = _sorted(properties, lost) if order.sorted else properties
    return {name: _property(value, order, lost) for name, value in ordered.items()}


def _property(value: Any, order: Order, lost: list[str]) -> Any:
    if not isinstance(value, Mapping):
        return value
    made = {key: item for key, item in _picked(value, order.property, lost).items() if item or item == 0}
    if isinstance(made.get("properties"), Mapping):
        made["properties"] = _properties(made["properties"], order, lost)
    if isinstance(made.get("items"), Mapping):
        made["items"] = _schema(made["items"], lost) if order.sorted else _number(made["items"], lost)
    return made


def _schema(value: Any, lost: list[str]) -> Any:
    """A schema that Ollama keeps as any JSON, whose keys a TEMPLATE sees sorted and can put in one order only."""
    if not isinstance(value, Mapping):
        return value
    first = [key for key in TO_TEMPLATE.property[1:] if key in value]
    ordered = [*first, *sorted(set(value) - set(first))]
    if list(value) != ordered:
        _note(lost, REORDERED)
    made = {key: value[key] for key in ordered}
    if isinstance(made.get("properties"), Mapping):
        made["properties"] = {key: _schema(item, lost) for key, item in _sorted(made["properties"], lost).items()}
    if isinstance(made.get("items"), Mapping):
        made["items"] = _schema(made["items"], lost)
    return made
