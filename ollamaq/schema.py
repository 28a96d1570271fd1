"""JSON Schema, as much of it as files in TOML need: written by these functions, checked here, published for editors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from ollamaq.modelfile.parameters import Option
from ollamaq.modelfile.words import did_you_mean

Schema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The version that editors of TOML understand."""
LONGEST = 60

_JSON_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string", list: "array", dict: "object"}
_ARTICLES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
}


def text(description: str, **more: Any) -> Schema:
    """A text."""
    return {"type": "string", "description": description, **more}


def texts(description: str) -> Schema:
    """A text, or a list of them."""
    return {"type": ["string", "array"], "items": {"type": "string"}, "description": description}


def number(description: str) -> Schema:
    """A number."""
    return {"type": "number", "description": description}


def count(description: str) -> Schema:
    """A whole number."""
    return {"type": "integer", "description": description}


def flag(description: str) -> Schema:
    """True or false."""
    return {"type": "boolean", "description": description}


def items(of: Schema, description: str, **more: Any) -> Schema:
    """A list."""
    return {"type": "array", "items": of, "description": description, **more}


def table(properties: dict[str, Schema], description: str, **more: Any) -> Schema:
    """A table with these keys and no others."""
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "description": description,
        **more,
    }


def option(of: Option, description: str) -> Schema:
    """The value of a PARAMETER, or of an option of a request."""
    if of.type is list:
        return texts(description)
    return {"type": _JSON_TYPES[of.type], "description": description}


def problems(
    value: Any, schema: Schema, key: str = "", definitions: Mapping[str, Schema] = MappingProxyType({})
) -> Iterator[tuple[str, str, str]]:
    """Key, what is wrong with it, and what to do; ``definitions`` are those that the schema refers to."""
    if reference := schema.get("$ref"):
        schema = definitions[reference.rpartition("/")[2]]
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if not any(_is(value, type_) for type_ in types):
        wanted = " or ".join(_ARTICLES[type_] for type_ in types)
        yield key, f"is {_shown(value)}, not {wanted}", f"give {key} {wanted}"
    elif isinstance(value, dict):
        yield from _table_problems(value, schema, key, definitions)
    elif isinstance(value, list):
        if len(value) < schema.get("minItems", 0) or len(value) > schema.get("maxItems", len(value)):
            yield key, f"has {len(value)} entries, not {schema['minItems']}", schema["description"]
        for i, item in enumerate(value):
            yield from problems(item, schema["items"], f"{key}[{i}]", definitions)
    elif value not in schema.get("enum", [value]):
        yield key, f"is {_shown(value)}{did_you_mean(str(value), schema['enum'])}", f"use {_some(schema['enum'])}"


def _table_problems(
    given: dict[str, Any], schema: Schema, key: str, definitions: Mapping[str, Schema]
) -> Iterator[tuple[str, str, str]]:
    known, other = schema.get("properties", {}), schema["additionalProperties"]
    for name in schema.get("required", ()):
        if name not in given:
            yield key, f"has no {name}", f"give it {known[name]['description']}"
    for name, value in given.items():
        inner = f"{key}.{name}" if key else name
        if name in known:
            yield from problems(value, known[name], inner, definitions)
        elif isinstance(other, dict):
            yield from problems(value, other, inner, definitions)
        elif not other:
            yield inner[:200], f"is unknown{did_you_mean(name, known)}", f"use {_some(known)}"


def _is(value: Any, type_: str) -> bool:
    if type_ == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return _JSON_TYPES.get(type(value)) == type_


def _some(names: Any) -> str:
    return ", ".join(names)


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    shown = repr(value)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"
