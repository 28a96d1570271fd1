"""What may stand in ``ollamaq.toml`` and in preset files, as JSON Schema: checked here, and published for editors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ollamaq.chat.known import known_formats
from ollamaq.errors import UsageError
from ollamaq.modelfile.parameters import CURRENT
from ollamaq.modelfile.parser import ROLES
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


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def _list(items: Schema, description: str, **more: Any) -> Schema:
    return {"type": "array", "items": items, "description": description, **more}


def _table(properties: dict[str, Schema], description: str) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False, "description": description}


def _any_name(values: Schema, description: str) -> Schema:
    return {"type": "object", "additionalProperties": values, "description": description}


def _parameter(name: str) -> Schema:
    option = CURRENT[name]
    described = {"description": option.does.format("…") + (f"; without it {option.default}" if option.default else "")}
    if option.type is list:
        return {"type": ["string", "array"], "items": {"type": "string"}, **described}
    return {"type": _JSON_TYPES[option.type], **described}


_NUMBER: Schema = {"type": "number"}
_TEXT: Schema = {"type": "string"}
_SCALAR: Schema = {"type": ["string", "number", "boolean"]}
_PARAMETERS = {name: _parameter(name) for name in CURRENT}
_RANGES = {
    name: _list(_NUMBER, f"the least and the most that {name} may be", minItems=2, maxItems=2)
    for name, option in CURRENT.items()
    if option.type in (int, float)
}
_MESSAGE = _table(
    {"role": _text("who says it", enum=list(ROLES)), "content": _text("what is said; a Jinja template")},
    "a message",
) | {"required": ["role", "content"]}

_SETTINGS: dict[str, Schema] = {
    "name": _text("what the model is called on servers, [namespace/]model[:tag]; a Jinja template"),
    "output": _text("where its Modelfile is written, from the directory of ollamaq.toml; a Jinja template"),
    "from": _text("FROM: a model's name, or a path from the Modelfile's directory; a Jinja template"),
    "chat_format": _text(
        "a known chat format: its TEMPLATE, stops and sampling, where nothing else is said", enum=list(known_formats())
    ),
    "template_file": _text("a file with the TEMPLATE, a Go template, from the directory of this file"),
    "system": _text("the system message; a Jinja template"),
    "system_file": _text("a file with the system message, from the directory of this file; a Jinja template"),
    "license": _text("the licence by its name (SPDX), such as Apache-2.0"),
    "license_file": _text("a file with the licence's text, from the directory of this file"),
    "renderer": _text("RENDERER"),
    "parser": _text("PARSER"),
    "requires": _text("REQUIRES: a version of Ollama, such as 0.34.2"),
    "parameters": _table(_PARAMETERS, "PARAMETERs"),
    "messages": _list(_MESSAGE, "MESSAGEs: examples in front of every conversation"),
    "variables": _any_name(_SCALAR, "for templates, which also know model, the key of the model, and env"),
}

KEYS = (
    *(key for key in _SETTINGS if key not in ("variables", "parameters")),
    "parameters",
    *(f"parameters.{name}" for name in _PARAMETERS),
)
"""What a policy can require or forbid."""

_KEY_LIST = {"type": "string", "enum": list(KEYS)}
_POLICY = _table(
    {
        "require": _list(_KEY_LIST, "what every model must say"),
        "forbid": _list(_KEY_LIST, "what no model may say"),
        "ranges": _table(_RANGES, "what parameters may be, if they are said"),
        "licenses": _list(_TEXT, "the licences that a model may have"),
        "names": _list(_TEXT, "patterns of names without tags, with * and ?: one must match"),
        "tags": _list(_TEXT, "patterns of tags: one must match"),
    },
    "what holds for every model here; policies add up, and nothing lifts one",
)
_REFERENCES: dict[str, Schema] = {name: {"$ref": f"#/definitions/{name}"} for name in ("settings", "preset", "policy")}
_POLICED = _SETTINGS | {"policy": _REFERENCES["policy"]}
_PRESET: dict[str, Schema] = {
    "extends": _text("the preset that this one builds on"),
    **_POLICED,
    "environments": _any_name(_REFERENCES["settings"], "what is different in an environment"),
}
_DEFINITIONS: dict[str, Schema] = {
    "policy": _POLICY,
    "settings": _table(_POLICED, "what a model is made with"),
    "preset": _table(_PRESET, "a preset, or a model: settings that may build on a preset"),
}
_DEFAULTS = _table(
    {
        "to": _text("--to: auto, an Ollama server's address, container, store or file"),
        "q": _list(_TEXT, "--q: the mixes that are published"),
        "preset": _text("--preset"),
        "env": _text("--env, with a preset"),
        "image": _text("--image, with --to container"),
        "threads": {"type": "integer", "description": "--threads"},
        "max_memory": _text("--max-memory, such as 512M"),
        "ollama": _text("--ollama: the version that Modelfiles are for"),
    },
    "what options are where neither the command line nor OLLAMAQ_… says it",
)
_GATE = _table(
    {
        "required": _list(_TEXT, "checks that must be made, and pass: loads, answer, stops, prompt, tokens, or a case"),
        "pass_rate": {"type": "number", "description": "the share of a suite's cases that must pass; 1 without it"},
        "max_size": _text("the most bytes that a model may have, such as 2GB"),
        "max_bits_per_weight": {"type": "number", "description": "the most bits per weight"},
        "max_slowdown": {"type": "number", "description": "how many times slower than its version before it may be"},
    },
    "what a model must show, beyond passing checks, before it gets its name",
)
_CATALOGUE = _table(
    {
        "defaults": _DEFAULTS,
        "gate": _GATE,
        "environments": _list(_TEXT, "where models go, such as staging and prod; each gets its own Modelfiles"),
        "output": _text("where Modelfiles are written, for models that do not say it; a Jinja template"),
        "shared": _list(_TEXT, "directories below this one, such as Git submodules, that hold presets"),
        "policy": _REFERENCES["policy"],
        "presets": _any_name(_REFERENCES["preset"], "presets, as in presets/<name>.toml"),
        "models": _any_name(_REFERENCES["preset"], "the models of the team"),
    },
    "a team's models",
)
SCHEMAS: dict[str, Schema] = {
    "ollamaq": {"$schema": DRAFT, "title": "ollamaq.toml", **_CATALOGUE, "definitions": _DEFINITIONS},
    "preset": {
        "$schema": DRAFT,
        "title": "a preset of ollamaq",
        **_DEFINITIONS["preset"],
        "definitions": _DEFINITIONS,
    },
}
"""By the names of the files in ``docs/schemas/``."""


def check(data: dict[str, Any], schema: str, file: str, key: str = "") -> None:
    """See that a file's content, or what stands in it at ``key``, is as one of `SCHEMAS` says.

    Raises:
        UsageError: it is not; names the file and the key.
    """
    for place, message, step in problems(data, SCHEMAS[schema], key):
        raise UsageError(f"{file}: {place or 'it'} {message}", next_step=step)


def problems(value: Any, schema: Schema, key: str) -> Iterator[tuple[str, str, str]]:
    """Key, what is wrong with it, and what to do."""
    if reference := schema.get("$ref"):
        schema = _DEFINITIONS[reference.rpartition("/")[2]]
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if not any(_is(value, type_) for type_ in types):
        wanted = " or ".join(_ARTICLES[type_] for type_ in types)
        yield key, f"is {_shown(value)}, not {wanted}", f"give {key} {wanted}"
    elif isinstance(value, dict):
        yield from _table_problems(value, schema, key)
    elif isinstance(value, list):
        if len(value) < schema.get("minItems", 0) or len(value) > schema.get("maxItems", len(value)):
            yield key, f"has {len(value)} entries, not {schema['minItems']}", schema["description"]
        for i, item in enumerate(value):
            yield from problems(item, schema["items"], f"{key}[{i}]")
    elif value not in schema.get("enum", [value]):
        yield key, f"is {_shown(value)}{did_you_mean(str(value), schema['enum'])}", f"use {_some(schema['enum'])}"


def _table_problems(table: dict[str, Any], schema: Schema, key: str) -> Iterator[tuple[str, str, str]]:
    known, other = schema.get("properties", {}), schema["additionalProperties"]
    for name in schema.get("required", ()):
        if name not in table:
            yield key, f"has no {name}", f"give it {known[name]['description']}"
    for name, value in table.items():
        inner = f"{key}.{name}" if key else name
        if name in known:
            yield from problems(value, known[name], inner)
        elif isinstance(other, dict):
            yield from problems(value, other, inner)
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
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
