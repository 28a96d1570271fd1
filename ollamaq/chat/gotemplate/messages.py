"""What Ollama's templates get of a chat: messages and tools as the types of ``template.go`` and ``api/types.go``."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from ollamaq.chat.gotemplate import marshal
from ollamaq.chat.gotemplate.printing import sprint
from ollamaq.chat.gotemplate.text import encode
from ollamaq.chat.gotemplate.types import (
    ANY,
    ANYS,
    BYTES,
    INT,
    STRING,
    STRINGS,
    UINT8,
    Field,
    Method,
    Type,
    Value,
    go,
    map_of,
    pointer_to,
    slice_of,
)
from ollamaq.errors import UsageError

MAX_DEPTH = 100
IMAGE = Type("slice", "api.ImageData", UINT8)
KIND = Type("slice", "api.PropertyType", STRING)
PROPERTIES = Type("struct", "api.ToolPropertiesMap")
PROPERTY = Type("struct", "api.ToolProperty")
ORDERED = Type("map", "*orderedmap.Map[string,github.com/ollama/ollama/api.ToolProperty]", PROPERTY)
PROPERTIES.fields = (Field("om", ORDERED),)
PROPERTY.fields = (
    Field("AnyOf", slice_of(PROPERTY), "anyOf", "anyOf", True),
    Field("Type", KIND, "type", "type", True),
    Field("Items", ANY, "items", "items", True),
    Field("Description", STRING, "description", "description", True),
    Field("Enum", ANYS, "enum", "enum", True),
    Field("Properties", pointer_to(PROPERTIES), "properties", "properties", True),
    Field("Required", STRINGS, "required", "required", True),
)
PROPERTY_MAP = map_of(PROPERTY)
PROPERTY_MAP.name = "map[string]api.ToolProperty"
TEMPLATE_PROPERTIES = Type("map", "template.templateProperties", PROPERTY)
PARAMETERS = Type(
    "struct",
    "template.templateToolFunctionParameters",
    fields=(
        Field("Type", STRING, "type", "type"),
        Field("Defs", ANY, "$defs", "$defs", True),
        Field("Items", ANY, "items", "items", True),
        Field("Required", STRINGS, "required", "required", True),
        Field("Properties", TEMPLATE_PROPERTIES, "properties", "properties"),
    ),
)
FUNCTION = Type(
    "struct",
    "template.templateToolFunction",
    fields=(
        Field("Name", STRING, "name", "name"),
        Field("Description", STRING, "description", "description"),
        Field("Parameters", PARAMETERS, "parameters", "parameters"),
    ),
)
TOOL = Type(
    "struct",
    "template.templateTool",
    fields=(
        Field("Type", STRING, "type", "type"),
        Field("Items", ANY, "items", "items", True),
        Field("Function", FUNCTION, "function", "function"),
    ),
)
TOOLS = Type("slice", "template.templateTools", TOOL)
ARGUMENTS = Type("map", "template.templateArgs", ANY)
CALLED = Type(
    "struct",
    "template.templateToolCallFunction",
    fields=(Field("Index", INT, "index"), Field("Name", STRING, "name"), Field("Arguments", ARGUMENTS, "arguments")),
)
CALL = Type(
    "struct", "template.templateToolCall", fields=(Field("ID", STRING, "id"), Field("Function", CALLED, "function"))
)
MESSAGE = Type(
    "struct",
    "template.templateMessage",
    fields=(
        Field("Role", STRING, "role"),
        Field("Content", STRING, "content"),
        Field("Thinking", STRING, "thinking"),
        Field("Images", slice_of(IMAGE), "images"),
        Field("ToolCalls", slice_of(CALL), "tool_calls"),
        Field("ToolName", STRING, "tool_name"),
        Field("ToolCallID", STRING, "tool_call_id"),
    ),
)
MESSAGES = slice_of(pointer_to(MESSAGE))

TYPESCRIPT = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


def _typescript(data: Any) -> bytes:
    if data["AnyOf"]:
        return b" | ".join(map(_typescript, data["AnyOf"]))
    kinds = [TYPESCRIPT.get(kind.decode(errors="replace"), "any").encode() for kind in data["Type"] or ()]
    return b" | ".join(kinds) or b"any"


def _as_json(type_: Type, empty: bytes | None = None) -> None:
    """Have a type's ``String`` give its JSON, or ``empty`` for nil."""
    # the methods of slices and maps of Ollama's write what they would be without a String of their own
    type_.string = lambda data: empty if data is None and empty is not None else marshal.marshal(Value(type_, data))


def _kind_string(data: Any) -> bytes:
    return b"" if not data else data[0] if len(data) == 1 else sprint([Value(STRINGS, data)])


def _kind_json(data: Any) -> bytes:
    return marshal.of(STRING, data[0]) if data and len(data) == 1 else marshal.of(STRINGS, data)


for _type, _nil in ((TOOLS, None), (TOOL, None), (ARGUMENTS, b"{}"), (TEMPLATE_PROPERTIES, b"{}")):
    _as_json(_type, _nil)
KIND.string, KIND.json = _kind_string, _kind_json
PROPERTIES.json = lambda data: b"null" if data["om"] is None else marshal.ordered(PROPERTY, data["om"])
PROPERTY.methods["ToTypeScriptType"] = Method(lambda data: Value(STRING, _typescript(data)))
for _type in (TOOLS, TOOL, ARGUMENTS, TEMPLATE_PROPERTIES, KIND):
    assert _type.string
    _type.methods["String"] = Method(lambda data, string=_type.string: Value(STRING, string(data)))  # type: ignore[misc]
for _type in (KIND, PROPERTIES):
    assert _type.json
    _type.methods["MarshalJSON"] = Method(lambda data, json=_type.json: Value(BYTES, list(json(data))))  # type: ignore[misc]


def _om(data: Any) -> dict[bytes, Any] | None:
    return None if data is None else data["om"]


_PAIRS = Type("func", "iter.Seq2[string,github.com/ollama/ollama/api.ToolProperty]")
PROPERTIES.methods |= {
    "Len": Method(lambda data: Value(INT, len(_om(data) or ()))),
    "ToMap": Method(lambda data: Value(PROPERTY_MAP, _om(data))),
    "All": Method(
        lambda data: Value(
            _PAIRS, [(Value(STRING, key), Value(PROPERTY, item)) for key, item in (_om(data) or {}).items()]
        )
    ),
    "Get": Method(
        lambda data: Value(INT, 0),
        1,
        "invalid function signature for Get: second return value should be error; is bool",
    ),
}


# --- from JSON ------------------------------------------------------------------------------------------------------


def messages_of(messages: Any) -> list[dict[str, Any]]:
    """Ollama's messages, of those of its API."""
    read = _read(slice_of(MESSAGE), messages, "messages")
    for message in read or ():
        message["Role"] = encode(message["Role"].decode().lower())
        message["ToolCalls"] = message["ToolCalls"] or None
    return read or []


def tools_of(tools: Any) -> Value:
    """Ollama's tools, of those of its API."""
    return Value(TOOLS, _read(TOOLS, tools, "tools"))


def _read(type_: Type, given: Any, where: str) -> Any:
    """Data of a type, as Go decodes it from JSON.

    Raises:
        UsageError: Ollama's server would refuse it.
    """
    if where.count(".") + where.count("[") > MAX_DEPTH:
        raise UsageError(f"{where[:80]}…: it is nested too deep", next_step="send what Ollama's API takes")
    if type_ is ANY:
        try:
            return go(given)
        except TypeError as error:
            raise _wrong(where, given, "JSON") from error
    if type_ is KIND:
        return _read(STRINGS, given if isinstance(given, list) else ["" if given is None else given], where)
    if given is None:
        return type_.zero()
    match type_.kind:
        case "string" if isinstance(given, str):
            return encode(given)
        case "int" if isinstance(given, int) and not isinstance(given, bool):
            return given
        case "slice" if type_ is IMAGE and isinstance(given, str | bytes):
            try:
                return list(given if isinstance(given, bytes) else base64.b64decode(given, validate=True))
            except binascii.Error as error:
                raise _wrong(where, given, "base64") from error
        case "slice" if isinstance(given, list | tuple):
            return [_read(type_.element, item, f"{where}[{at}]") for at, item in enumerate(given)]
        case "map" if isinstance(given, dict):
            return {encode(str(name)): _read(type_.element, item, f"{where}.{name}") for name, item in given.items()}
        case "ptr" if isinstance(given, dict):
            return {"om": _read(ORDERED, given, where)}
        case "struct" if isinstance(given, dict):
            return {
                part.name: _read(part.type, given[part.key], f"{where}.{part.key}")
                if part.key in given
                else part.type.zero()
                for part in type_.fields
            }
    expected = {"string": "text", "int": "a whole number", "slice": "a list"}.get(type_.kind, "an object")
    raise _wrong(where, given, expected)


def _wrong(where: str, given: Any, expected: str) -> UsageError:
    return UsageError(
        f"{where} is {str(given)[:60]!r}, where Ollama's API takes {expected}",
        next_step="send what Ollama's API takes",
    )
