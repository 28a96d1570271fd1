"""What Ollama has of a chat, under the names by which chat templates read it (``template.go``, ``api/types.go``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ollamaq.chat.derive.go import Expr, call, field_of, string
from ollamaq.chat.derive.values import NOTHING, Choice, Json, Listing, Record, Static, Str, Value

Field = Callable[[Expr], Value]


def present(texts: Expr) -> Expr:
    """Whether a list of texts was given, if only an empty one."""
    return call("ne", call("printf", string("%#v"), texts), string("[]string(nil)"))


def _str(name: str) -> Field:
    return lambda of: Str(field_of(of, name))


def _maybe(name: str, value: Callable[[Expr], Value]) -> Field:
    """What Ollama can't tell from nothing where it is empty."""
    return lambda of: Choice(field_of(of, name), value(field_of(of, name)), NOTHING)


def _record(kind: str, name: str) -> Field:
    return lambda of: Record(kind, field_of(of, name))


def _list(kind: str, *, mapping: bool = False) -> Callable[[Expr], Value]:
    return lambda of: Listing(kind, of, mapping)


MESSAGE: Mapping[str, Field] = {
    "role": _str("Role"),
    "content": _str("Content"),
    "reasoning_content": _maybe("Thinking", Str),
    "thinking": _maybe("Thinking", Str),
    "tool_calls": _maybe("ToolCalls", _list("call")),
    "name": _maybe("ToolName", Str),
    "tool_name": _maybe("ToolName", Str),
    "tool_call_id": _maybe("ToolCallID", Str),
}
SHAPES: Mapping[str, Mapping[str, Field]] = {
    "message": MESSAGE,
    "plain message": {name: field for name, field in MESSAGE.items() if name != "tool_calls"},
    "call": {
        "id": _maybe("ID", Str),
        "type": lambda of: Static("function"),
        "function": _record("called", "Function"),
    },
    "called": {
        "name": _str("Name"),
        "arguments": lambda of: Listing("json", field_of(of, "Arguments"), mapping=True),
    },
    "tool": {
        "type": _str("Type"),
        "function": _record("function", "Function"),
    },
    "function": {
        "name": _str("Name"),
        "description": _maybe("Description", Str),
        "parameters": _record("parameters", "Parameters"),
    },
    "parameters": {
        "type": _str("Type"),
        "properties": lambda of: Listing("property", field_of(of, "Properties"), mapping=True),
        "required": lambda of: Choice(
            present(field_of(of, "Required")), Listing("string", field_of(of, "Required")), NOTHING
        ),
    },
    "property": {
        "type": lambda of: Choice(field_of(of, "Type"), Str(Expr("print", (field_of(of, "Type"),))), NOTHING),
        "items": _maybe("Items", Json),
        "properties": lambda of: Choice(
            field_of(of, "Properties"),
            Listing("property", field_of(of, "Properties.ToMap"), mapping=True),
            NOTHING,
        ),
        "required": _maybe("Required", _list("string")),
        "enum": _maybe("Enum", _list("json")),
        "description": _maybe("Description", Str),
    },
}
"""Kinds of structs, and their keys in the order of transformers' ``get_json_schema``."""
GIVEN = Expr("$.Messages")
LAST = Expr("$last")
"""The last of the messages, in a variable."""
MESSAGES = ("message", "plain message")
"""Kinds of messages: with their tool calls, and without."""


def element(kind: str, expr: Expr) -> Value:
    """An element of a list of a kind."""
    match kind:
        case "string":
            return Str(expr)
        case "json":
            return Json(expr)
    return Record(kind, expr)
