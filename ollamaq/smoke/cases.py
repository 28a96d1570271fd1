"""Suites of a team's own: ``smoke.toml``, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollamaq.errors import UsageError
from ollamaq.modelfile.parameters import CURRENT
from ollamaq.schema import DRAFT, Schema, count, flag, items, number, option, problems, table, text, texts
from ollamaq.sizes import parse_size
from ollamaq.smoke.checks import wrong_regex
from ollamaq.team.files import read_toml

MAX_CASES = 10_000
INPUTS = ("prompt", "messages", "needle", "embed")
"""What a case asks: just one of them."""

OPTIONS = {"temperature": 0, "seed": 0, "num_predict": 256}
"""Greedy, so that the same model gives the same answers."""


_OPEN: Schema = {"type": "object", "additionalProperties": True}
ASKED: dict[str, Schema] = {
    "name": text("what reports call it"),
    "prompt": text("a question"),
    "messages": {
        "type": "array",
        "description": "a conversation, as /api/chat takes it",
        "items": {**_OPEN, "required": ["role"], "properties": {"role": text("system, user, assistant or tool")}},
    },
    "system": text("a system message before the question"),
    "tools": {"type": "array", "items": _OPEN, "description": "tools, as /api/chat takes them"},
    "think": {"type": ["boolean", "string"], "description": "true, false, or a level: low, medium, high"},
    "options": table(
        {name: option(of, of.does.format("…")) for name, of in CURRENT.items()},
        "options of the request, such as temperature or num_ctx",
    ),
    "attempts": count("how often it is asked, each time with the next seed"),
    "pass_rate": number("the share of attempts that must pass, 1 where nothing is said"),
    "concurrent": count("as many requests at once, all of which must pass"),
    "needle": table(
        {"tokens": count("the length of the text"), "depth": number("where it is: 0 the beginning, 1 the end")},
        "a word hidden in a long text, which the answer must tell",
        required=["tokens"],
    ),
    "embed": items({"type": "string"}, "texts to embed"),
}
ANSWERED: dict[str, Schema] = {
    "contains": texts("what the answer must contain, whatever its case"),
    "excludes": texts("what the answer must not contain, whatever its case"),
    "regex": text("a regular expression that must be found in the answer"),
    "equals": text("the answer, but for white space around it"),
    "json_schema": {**_OPEN, "description": "the answer is asked for, and must be, JSON of this schema"},
    "stops": flag("false where the answer may be cut off"),
    "language": text("the language of the answer, as ISO 639-1 has it: en, de, fr, zh"),
    "refuses": flag("whether the answer declines to do what is asked (in English)"),
    "tool_call": table(
        {"name": text("the tool"), "arguments": {**_OPEN, "description": "arguments it must have, among others"}},
        "a call that must be made",
        required=["name"],
    ),
    "thinking": flag("whether the model must think, or must not"),
    "baseline": text("an answer recorded before"),
    "tolerance": number("the share of the baseline's words that may be others, 0 where nothing is said"),
}
MEASURED: dict[str, Schema] = {
    "speed": table(
        {
            "reference": text("the other model"),
            "tokens_per_second": number("the least ratio of tokens per second to the reference's"),
            "first_token": number("the most ratio of the time to the first token to the reference's"),
        },
        "speed, beside that of another model on the same server",
        required=["reference"],
    ),
    "memory": text("the most memory that the model may take once loaded, such as 2GB"),
    "dimension": count("the length of an embedding"),
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

_CASE = ASKED | ANSWERED | MEASURED
_SHARED = {key: _CASE[key] for key in ("options", "system", "think", "attempts", "pass_rate")}
SCHEMA: Schema = {
    "$schema": DRAFT,
    "title": "smoke.toml, a suite of ollamaq",
    **table(
        {
            "defaults": table(_SHARED, "what holds for every case that does not say it"),
            "case": items(table(_CASE, "a case", required=["name"]), "cases"),
        },
        "a suite of smoke tests",
        required=["case"],
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
    data = read_toml(path)
    for key, message, step in problems(data, SCHEMA):
        raise UsageError(f"{path}: {key or 'it'} {message}", next_step=step)
    written, defaults = data["case"], data.get("defaults", {})
    if not 0 < len(written) <= MAX_CASES:
        raise UsageError(f"{path}: case has {len(written)} entries", next_step=f"give 1 to {MAX_CASES}")
    names = [said["name"] for said in written]
    for i, said in enumerate(written):
        if wrong := _wrong(said, names[:i]):
            key, message, step = wrong
            raise UsageError(f"{path}: case[{i}].{key} {message}", next_step=step)
    return tuple(_case({**defaults, **said}, defaults) for said in written)


def _wrong(said: Mapping[str, Any], before: list[str]) -> tuple[str, str, str] | None:
    """Key, what is wrong with it, and what to do, where the schema cannot tell."""
    asked = [key for key in INPUTS if key in said]
    if len(asked) != 1:
        told = f"asks {' and '.join(asked)}" if asked else "asks nothing"
        return "name", f"{said['name']!r} {told}", f"give it one of {', '.join(INPUTS)}"
    if said["name"] in before:
        return "name", f"{said['name']!r} is there twice", "give each case a name of its own"
    for key in said:
        if key in (NOT_EMBEDDED if asked == ["embed"] else EMBEDDED):
            return key, f"does not go with {asked[0]}", "see docs/smoke-suites.md"
    if (rate := said.get("pass_rate", 1)) > 1 or rate < 0:
        return "pass_rate", f"is {rate}, not a share", "give a number from 0 to 1"
    for key in ("attempts", "concurrent"):
        if not 1 <= said.get(key, 1) <= 1000:
            return key, f"is {said[key]}", "give a number from 1 to 1000"
    if not 0 <= said.get("needle", {}).get("depth", 0) <= 1:
        return "needle.depth", "is not a share", "give a number from 0 to 1"
    if not 16 <= said.get("needle", {}).get("tokens", 16) <= 1 << 20:
        return "needle.tokens", "is no length of a text", "give a number of tokens, from 16"
    if "tolerance" in said and "baseline" not in said:
        return "tolerance", "is there without a baseline", "add the baseline"
    if "similarity" in said and len(said["embed"]) < 2:
        return "similarity", "needs two texts", "add a text to embed"
    if "memory" in said and parse_size(said["memory"]) is None:
        return "memory", f"is {said['memory']!r}, not an amount of memory", "write 2GB"
    if "regex" in said and (why := wrong_regex(said["regex"])):
        return "regex", f"is not a regular expression: {why}", "put \\ before marks such as ( [ *"
    return None


def _case(said: Mapping[str, Any], defaults: Mapping[str, Any]) -> Case:
    messages = said.get("messages") or [{"role": "user", "content": said.get("prompt", "")}]
    if "system" in said and messages[0].get("role") != "system":
        messages = [{"role": "system", "content": said["system"]}, *messages]
    request = {key: said[key] for key in ("tools", "think") if key in said}
    if "json_schema" in said:
        request["format"] = said["json_schema"]
    return Case(
        said["name"],
        messages=tuple(messages),
        needle=said.get("needle"),
        embed=tuple(said.get("embed", ())),
        options=OPTIONS | defaults.get("options", {}) | said.get("options", {}),
        request=request,
        attempts=said.get("attempts", 1),
        pass_rate=said.get("pass_rate", 1.0),
        concurrent=said.get("concurrent", 1),
        checks={key: said[key] for key in said if key in ANSWERED or key in MEASURED},
    )
