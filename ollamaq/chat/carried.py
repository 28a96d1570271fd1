"""What is left of a conversation once Ollama's API has carried it to a Go TEMPLATE (``template.go``, ``api/types.go``).

A prompt that differs only because of that is Ollama's limit, whatever the TEMPLATE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ollamaq.chat.conversations import Conversation, Message

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
PARAMETERS = ("type", "properties", "required")
PROPERTY = ("anyOf", "type", "items", "properties", "required", "enum", "description")
MERGED = "it merges messages of one role in a row"
SORTED = "it sorts the arguments of tool calls and the parameters of tools"
REORDERED = "it does not keep the order of a tool's keys"
DROPPED = "it drops keys of tools that it does not know"
NUMBERS = "it writes whole numbers without a fraction"


def carried(conversation: Conversation) -> tuple[Conversation, list[str]]:
    """The conversation as a TEMPLATE is given it, and what was lost."""
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
        tools = [_tool(tool, lost) for tool in tools]
    return Conversation(messages, tools, conversation.think), lost


def _note(lost: list[str], what: str) -> None:
    if what not in lost:
        lost.append(what)


def _message(message: Message, lost: list[str]) -> Message:
    kept = {key: value for key, value in message.items() if key in KEPT}
    calls = []
    for call in message.get("tool_calls") or ():
        function = call.get("function", {})
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping):
            arguments = {key: _number(value, lost) for key, value in _sorted(arguments, lost).items()}
        calls.append({**call, "function": {**function, "arguments": arguments}})
    return {**kept, "tool_calls": calls} if calls else kept


def _number(value: Any, lost: list[str]) -> Any:
    """A value of JSON after Go has read it: objects sorted, and numbers as floats."""
    match value:
        case float() if value.is_integer() and abs(value) < 1e21:
            _note(lost, NUMBERS)
            return int(value)
        case list():
            return [_number(item, lost) for item in value]
        case dict():
            return {key: _number(item, lost) for key, item in _sorted(value, lost).items()}
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


def _tool(tool: Mapping[str, Any], lost: list[str]) -> dict[str, Any]:
    made = _picked(tool, ("type", "function"), lost)
    function = _picked(made.get("function") or {}, FUNCTION, lost)
    if not function.get("description"):
        function.pop("description", None)
    parameters = _picked(function.get("parameters") or {}, PARAMETERS, lost)
    parameters = {"type": "", "properties": {}, **parameters}
    parameters["properties"] = _properties(parameters["properties"], lost)
    return {**made, "function": {**function, "parameters": parameters}}


def _properties(properties: Mapping[str, Any], lost: list[str]) -> dict[str, Any]:
    return {name: _property(value, lost) for name, value in _sorted(properties, lost).items()}


def _property(value: Any, lost: list[str]) -> Any:
    if not isinstance(value, Mapping):
        return value
    made = {key: item for key, item in _picked(value, PROPERTY, lost).items() if item or item == 0}
    if isinstance(made.get("properties"), Mapping):
        made["properties"] = _properties(made["properties"], lost)
    if isinstance(made.get("items"), Mapping):
        made["items"] = _schema(made["items"], lost)
    return made


def _schema(value: Any, lost: list[str]) -> Any:
    """A schema that Ollama keeps as any JSON, whose keys a TEMPLATE sees sorted and can put in one order only."""
    if not isinstance(value, Mapping):
        return value
    first = [key for key in PROPERTY[1:] if key in value]
    ordered = [*first, *sorted(set(value) - set(first))]
    if list(value) != ordered:
        _note(lost, REORDERED)
    made = {key: value[key] for key in ordered}
    if isinstance(made.get("properties"), Mapping):
        made["properties"] = {key: _schema(item, lost) for key, item in _sorted(made["properties"], lost).items()}
    if isinstance(made.get("items"), Mapping):
        made["items"] = _schema(made["items"], lost)
    return made
