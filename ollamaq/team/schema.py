"""What may stand in ``ollamaq.toml`` and in preset files, as JSON Schema: checked here, and published for editors."""

from __future__ import annotations

from typing import Any

from ollamaq.chat.known import known_formats
from ollamaq.errors import UsageError
from ollamaq.modelfile.parameters import CURRENT
from ollamaq.modelfile.parser import ROLES
from ollamaq.schema import DRAFT, Schema, count, items, number, option, problems, table, text


def _any_name(values: Schema, description: str) -> Schema:
    return {"type": "object", "additionalProperties": values, "description": description}


def _parameter(name: str) -> Schema:
    of = CURRENT[name]
    return option(of, of.does.format("…") + (f"; without it {of.default}" if of.default else ""))


_NUMBER: Schema = {"type": "number"}
_TEXT: Schema = {"type": "string"}
_SCALAR: Schema = {"type": ["string", "number", "boolean"]}
_PARAMETERS = {name: _parameter(name) for name in CURRENT}
_RANGES = {
    name: items(_NUMBER, f"the least and the most that {name} may be", minItems=2, maxItems=2)
    for name, of in CURRENT.items()
    if of.type in (int, float)
}
_MESSAGE = table(
    {"role": text("who says it", enum=list(ROLES)), "content": text("what is said; a Jinja template")},
    "a message",
    required=["role", "content"],
)

_SETTINGS: dict[str, Schema] = {
    "name": text("what the model is called on servers, [namespace/]model[:tag]; a Jinja template"),
    "output": text("where its Modelfile is written, from the directory of ollamaq.toml; a Jinja template"),
    "from": text("FROM: a model's name, or a path from the Modelfile's directory; a Jinja template"),
    "chat_format": text(
        "a known chat format: its TEMPLATE, stops and sampling, where nothing else is said", enum=list(known_formats())
    ),
    "template_file": text("a file with the TEMPLATE, a Go template, from the directory of this file"),
    "system": text("the system message; a Jinja template"),
    "system_file": text("a file with the system message, from the directory of this file; a Jinja template"),
    "license": text("the licence by its name (SPDX), such as Apache-2.0"),
    "license_file": text("a file with the licence's text, from the directory of this file"),
    "renderer": text("RENDERER"),
    "parser": text("PARSER"),
    "requires": text("REQUIRES: a version of Ollama, such as 0.34.2"),
    "parameters": table(_PARAMETERS, "PARAMETERs"),
    "messages": items(_MESSAGE, "MESSAGEs: examples in front of every conversation"),
    "variables": _any_name(_SCALAR, "for templates, which also know model, the key of the model, and env"),
}

KEYS = (
    *(key for key in _SETTINGS if key not in ("variables", "parameters")),
    "parameters",
    *(f"parameters.{name}" for name in _PARAMETERS),
)
"""What a policy can require or forbid."""

_KEY_LIST = {"type": "string", "enum": list(KEYS)}
_POLICY = table(
    {
        "require": items(_KEY_LIST, "what every model must say"),
        "forbid": items(_KEY_LIST, "what no model may say"),
        "ranges": table(_RANGES, "what parameters may be, if they are said"),
        "licenses": items(_TEXT, "the licences that a model may have"),
        "names": items(_TEXT, "patterns of names without tags, with * and ?: one must match"),
        "tags": items(_TEXT, "patterns of tags: one must match"),
    },
    "what holds for every model here; policies add up, and nothing lifts one",
)
_REFERENCES: dict[str, Schema] = {name: {"$ref": f"#/definitions/{name}"} for name in ("settings", "preset", "policy")}
_POLICED = _SETTINGS | {"policy": _REFERENCES["policy"]}
_PRESET: dict[str, Schema] = {
    "extends": text("the preset that this one builds on"),
    **_POLICED,
    "environments": _any_name(_REFERENCES["settings"], "what is different in an environment"),
}
_DEFINITIONS: dict[str, Schema] = {
    "policy": _POLICY,
    "settings": table(_POLICED, "what a model is made with"),
    "preset": table(_PRESET, "a preset, or a model: settings that may build on a preset"),
}
_DEFAULTS = table(
    {
        "to": text("--to: auto, an Ollama server's address, container, store or file"),
        "q": items(_TEXT, "--q: the mixes that are published"),
        "preset": text("--preset"),
        "env": text("--env, with a preset"),
        "image": text("--image, with --to container"),
        "threads": count("--threads"),
        "max_memory": text("--max-memory, such as 512M"),
        "ollama": text("--ollama: the version that Modelfiles are for"),
    },
    "what options are where neither the command line nor OLLAMAQ_… says it",
)
_GATE = table(
    {
        "required": items(_TEXT, "checks that must be made, and pass: loads, answer, stops, prompt, tokens, or a case"),
        "pass_rate": number("the share of a suite's cases that must pass; 1 without it"),
        "max_size": text("the most bytes that a model may have, such as 2GB"),
        "max_bits_per_weight": number("the most bits per weight"),
        "max_slowdown": number("how many times slower than its version before it may be"),
        "max_differing_prompts": count("how many of the conversations may be prompted otherwise than in training"),
    },
    "what a model must show, beyond passing checks, before it gets its name",
)
_CATALOGUE = table(
    {
        "defaults": _DEFAULTS,
        "gate": _GATE,
        "environments": items(_TEXT, "where models go, such as staging and prod; each gets its own Modelfiles"),
        "output": text("where Modelfiles are written, for models that do not say it; a Jinja template"),
        "shared": items(_TEXT, "directories below this one, such as Git submodules, that hold presets"),
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
    for place, message, step in problems(data, SCHEMAS[schema], key, _DEFINITIONS):
        raise UsageError(f"{file}: {place or 'it'} {message}", next_step=step)
