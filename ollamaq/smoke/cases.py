"""Suites of a team's own: ``smoke.toml``, read and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollamaq.errors import UsageError
from ollamaq.modelfile.parameters import CURRENT, Option
from ollamaq.sizes import parse_size
from ollamaq.smoke.checks import wrong_regex
from ollamaq.team.files import read_text
from ollamaq.team.schema import DRAFT, Schema, problems

MAX_CASES = 10_000
INPUTS = ("prompt", "messages", "needle", "embed")
"""What a case asks: just one of them."""

OPTIONS = {"temperature": 0, "seed": 0, "num_predict": 256}
"""Greedy, so that the same model gives the same answers."""


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


def _texts(description: str) -> Schema:
    return {"type": ["string", "array"], "items": {"type": "string"}, "description": description}


def _flag(description: str) -> Schema:
    return {"type": "boolean", "description": description}


def _number(description: str) -> Schema:
    return {"type": "number", "description": description}


def _count(description: str) -> Schema:
    return {"type": "integer", "description": description}


def _table(description: str, properties: dict[str, Schema], *required: str) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "additionalProperties": False,
        "required": list(required),
    }


_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}


def _option(option: Option) -> Schema:
    if option.type is list:
        return _texts(option.does.format("…"))
    return {"type": _TYPES[option.type], "description": option.does.format("…")}


_OPEN: Schema = {"type": "object", "additionalProperties": True}
ASKED: dict[str, Schema] = {
    "name": _text("what reports call it"),
    "prompt": _text("a question"),
    "messages": {
        "type": "array",
        "description": "a conversation, as /api/chat takes it",
        "items": {**_OPEN, "required": ["role"], "properties": {"role": _text("system, user, assistant or tool")}},
    },
    "system": _text("a system message before the question"),
    "tools": {"type": "array", "items": _OPEN, "description": "tools, as /api/chat takes them"},
    "think": {"type": ["boolean", "string"], "description": "true, false, or a level: low, medium, high"},
    "options": _table(
        "options of the request, such as temperature or num_ctx",
        {name: _option(option) for name, option in CURRENT.items()},
    ),
    "attempts": _count("how often it is asked, each time with the next seed"),
    "pass_rate": _number("the share of attempts that must pass, 1 where nothing is said"),
    "concurrent": _count("as many requests at once, all of which must pass"),
    "needle": _table(
        "a word hidden in a long text, which the answer must tell",
        {"tokens": _count("the length of the text"), "depth": _number("where it is: 0 the beginning, 1 the end")},
        "tokens",
    ),
    "embed": {"type": "array", "items": {"type": "string"}, "description": "texts to embed"},
}
ANSWERED: dict[str, Schema] = {
    "contains": _texts("what the answer must contain, whatever its case"),
    "excludes": _texts("what the answer must not contain, whatever its case"),
    "regex": _text("a regular expression that must be found in the answer"),
    "equals": _text("the answer, but for white space around it"),
    "json_schema": {**_OPEN, "description": "the answer is asked for, and must be, JSON of this schema"},
    "stops": _flag("false where the answer may be cut off"),
    "language": _text("the language of the answer, as ISO 639-1 has it: en, de, fr, zh"),
    "refuses": _flag("whether the answer declines to do what is asked (in English)"),
    "tool_call": _table(
        "a call that must be made",
        {"name": _text("the tool"), "arguments": {**_OPEN, "description": "arguments it must have, among others"}},
        "name",
    ),
    "thinking": _flag("whether the model must think, or must not"),
    "baseline": _text("an answer recorded before"),
    "tolerance": _number("the share of the baseline's words that may be others, 0 where nothing is said"),
}
MEASURED: dict[str, Schema] = {
    "speed": _table(
        "speed, beside that of another model on the same server",
        {
            "reference": _text("the other model"),
            "tokens_per_second": _number("the least ratio of tokens per second to the reference's"),
            "first_token": _number("the most ratio of the time to the first token to the reference's"),
        },
        "reference",
    ),
    "memory": _text("the most memory that the model may take once loaded, such as 2GB"),
    "dimension": _count("the length of an embedding"),
    "similarity": {
        "type": "array",
        "items": {"type": "number"},
        "minItems": 2,
        "maxItems": 2,
        "description": "the least and the most cosine of the first two texts",
    },
}
EMBEDDED = ("dimension", "similarity")
NOT_EMBEDDED = (*ANSWERED, "speed")
"""What can be said of embeddings alone, and of answers alone."""

_CASE = {key: schema for table in (ASKED, ANSWERED, MEASURED) for key, schema in table.items()}
_SHARED = {key: _CASE[key] for key in ("options", "system", "think", "attempts", "pass_rate")}
SCHEMA: Schema = {
    "$schema": DRAFT,
    "title": "smoke.toml, a suite of ollamaq",
    **_table(
        "a suite of smoke tests",
        {
            "defaults": _table("what holds for every case that does not say it", _SHARED),
            "case": {"type": "array", "description": "cases", "items": _table("a case", _CASE, "name")},
        },
        "case",
    ),
}


@dataclass(frozen=True)
class Case:
    """One thing to ask, how, and what must be seen: ``checks`` are those of `ANSWERED` and `MEASURED`."""

    name: str
    messages: tuple[Mapping[str, Any], ...] = ()
    needle: Mapping[str, Any] | None = None
    embed: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 1
    pass_rate: float = 1.0
    concurrent: int = 1
    checks: Mapping[str, Any] = field(default_factory=dict)


def read_suite(path: Path) -> tuple[Case, ...]:
    """The cases of a ``smoke.toml``.

    Raises:
        UsageError: it cannot be read, or says what no suite can say; names the file and the key.
    """
    text = read_text(path)
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}", next_step="see https://toml.io") from error
    for key, message, step in problems(data, SCHEMA, ""):
        raise UsageError(f"{path}: {key or 'it'} {message}", next_step=step)
    tables, defaults = data["case"], data.get("defaults", {})
    if not 0 < len(tables) <= MAX_CASES:
        raise UsageError(f"{path}: case has {len(tables)} entries", next_step=f"give 1 to {MAX_CASES}")
    names = [table["name"] for table in tables]
    for i, table in enumerate(tables):
        if wrong := _wrong(table, names[:i]):
            key, message, step = wrong
            raise UsageError(f"{path}: case[{i}].{key} {message}", next_step=step)
    return tuple(_case({**defaults, **table}, defaults) for table in tables)


def _wrong(table: Mapping[str, Any], before: list[str]) -> tuple[str, str, str] | None:
    """Key, what is wrong with it, and what to do, where the schema cannot tell."""
    asked = [key for key in INPUTS if key in table]
    if len(asked) != 1:
        told = f"asks {' and '.join(asked)}" if asked else "asks nothing"
        return "name", f"{table['name']!r} {told}", f"give it one of {', '.join(INPUTS)}"
    if table["name"] in before:
        return "name", f"{table['name']!r} is there twice", "give each case a name of its own"
    for key in table:
        if key in (NOT_EMBEDDED if asked == ["embed"] else EMBEDDED):
            return key, f"does not go with {asked[0]}", "see docs/smoke-suites.md"
    if (rate := table.get("pass_rate", 1)) > 1 or rate < 0:
        return "pass_rate", f"is {rate}, not a share", "give a number from 0 to 1"
    for key in ("attempts", "concurrent"):
        if not 1 <= table.get(key, 1) <= 1000:
            return key, f"is {table[key]}", "give a number from 1 to 1000"
    if not 0 <= table.get("needle", {}).get("depth", 0) <= 1:
        return "needle.depth", "is not a share", "give a number from 0 to 1"
    if not 16 <= table.get("needle", {}).get("tokens", 16) <= 1 << 20:
        return "needle.tokens", "is no length of a text", "give a number of tokens, from 16"
    if "tolerance" in table and "baseline" not in table:
        return "tolerance", "is there without a baseline", "add the baseline"
    if "similarity" in table and len(table["embed"]) < 2:
        return "similarity", "needs two texts", "add a text to embed"
    if "memory" in table and parse_size(table["memory"]) is None:
        return "memory", f"is {table['memory']!r}, not an amount of memory", "write 2GB"
    if "regex" in table and (why := wrong_regex(table["regex"])):
        return "regex", f"is not a regular expression: {why}", "put \\ before marks such as ( [ *"
    return None


def _case(table: Mapping[str, Any], defaults: Mapping[str, Any]) -> Case:
    messages = table.get("messages") or [{"role": "user", "content": table.get("prompt", "")}]
    if "system" in table and messages[0].get("role") != "system":
        messages = [{"role": "system", "content": table["system"]}, *messages]
    request = {key: table[key] for key in ("tools", "think") if key in table}
    if "json_schema" in table:
        request["format"] = table["json_schema"]
    return Case(
        table["name"],
        messages=tuple(messages),
        needle=table.get("needle"),
        embed=tuple(table.get("embed", ())),
        options=OPTIONS | defaults.get("options", {}) | table.get("options", {}),
        request=request,
        attempts=table.get("attempts", 1),
        pass_rate=table.get("pass_rate", 1.0),
        concurrent=table.get("concurrent", 1),
        checks={key: table[key] for key in table if key in ANSWERED or key in MEASURED},
    )
