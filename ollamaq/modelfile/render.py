"""A Modelfile as text, in the grammar of Ollama's ``parser``, and as the body of ``/api/create``.

The grammar has no escapes and drops characters that do not print, so some texts cannot be written in it: they are
refused here rather than changed. JSON can say everything; it is what a server gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ollamaq.errors import UsageError
from ollamaq.modelfile.model import Modelfile, Parameter
from ollamaq.modelfile.parameters import CURRENT
from ollamaq.modelfile.parser import QUOTES, ROLES, read_value
from ollamaq.modelfile.printable import dropped
from ollamaq.modelfile.versions import SEMVER

PARAMETERS: dict[str, type] = {name: option.type for name, option in CURRENT.items()}
"""Every PARAMETER that Ollama 0.34 takes, with its type."""

_QUOTES = ("", *reversed(QUOTES))


def render(modelfile: Modelfile) -> str:
    """The text of a Modelfile, from which Ollama reads exactly what ``modelfile`` says.

    Raises:
        UsageError: something in it cannot be written in Ollama's grammar, or Ollama would refuse it.
    """
    return "".join(f"{instruction} {_value(instruction, value)}\n" for instruction, value in _instructions(modelfile))


def create_request(modelfile: Modelfile, name: str, files: Mapping[str, str]) -> dict[str, Any]:
    """The body of ``/api/create``; ``files`` maps names (``model.gguf``) to digests (``sha256:…``) of uploaded blobs.

    Raises:
        UsageError: a parameter, a role or a version that Ollama would refuse, or ignore.
    """
    body = {
        "model": name,
        "files": dict(files),
        "from": None if files else modelfile.from_,
        "template": modelfile.template,
        "renderer": modelfile.renderer,
        "parser": modelfile.parser,
        "system": modelfile.system,
        "parameters": {key: _typed(key, value) for key, value in modelfile.parameters.items()},
        "messages": [{"role": _role(role), "content": content} for role, content in modelfile.messages],
        "license": list(modelfile.licenses),
        "requires": _version(modelfile.requires) if modelfile.requires else None,
    }
    return {key: value for key, value in body.items() if value}


def _instructions(modelfile: Modelfile) -> Iterator[tuple[str, str]]:
    yield "FROM", modelfile.from_
    if modelfile.projector:
        yield "FROM", modelfile.projector
    for instruction, text in (
        ("TEMPLATE", modelfile.template),
        ("RENDERER", modelfile.renderer),
        ("PARSER", modelfile.parser),
        ("SYSTEM", modelfile.system),
    ):
        if text:
            yield instruction, text
    for key, value in modelfile.parameters.items():
        typed = _typed(key, value)
        for item in typed if isinstance(typed, list) else [typed]:
            yield f"PARAMETER {key}", str(item).lower() if isinstance(item, bool) else str(item)
    for role, content in modelfile.messages:
        yield f"MESSAGE {_role(role)}", content
    for text in modelfile.licenses:
        yield "LICENSE", text
    if modelfile.requires:
        yield "REQUIRES", _version(modelfile.requires)


def quoted(value: str) -> str | None:
    """A value as it is written in a Modelfile, with as few quotes as it needs; None if no quotes can hold it."""
    for quotes in _QUOTES:
        written = quotes + value + quotes
        if read_value(written) == (value, len(written)):
            return written
    return None


def _value(instruction: str, value: str) -> str:
    if places := dropped(value):
        raise UsageError(
            f"a Modelfile cannot hold the {instruction} {_short(value)}: "
            f"Ollama drops the character U+{ord(value[places[0]]):04X} when it reads one",
            next_step=f"take that character out of the {instruction}",
        )
    if (written := quoted(value)) is None:
        raise UsageError(
            f"a Modelfile cannot hold the {instruction} {_short(value)}: its grammar cannot quote it",
            next_step=f'take blanks and """ away from the ends of lines of the {instruction}',
        )
    return written


def _typed(key: str, value: Parameter) -> Parameter:
    wanted = PARAMETERS.get(key)
    if wanted is None:
        raise UsageError(f"unknown PARAMETER {key!r}", next_step=f"Ollama knows {', '.join(PARAMETERS)}")
    if wanted is list and isinstance(value, str):
        return [value]
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return value
    if type(value) is not wanted or (isinstance(value, list) and not all(isinstance(item, str) for item in value)):
        kind = "list of texts" if wanted is list else wanted.__name__
        raise UsageError(f"PARAMETER {key} is {value!r}, which is not a {kind}", next_step=f"give {key} a {kind}")
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise UsageError(f"PARAMETER {key} is {value}, which is not a finite number", next_step=f"give {key} a number")
    return value


def _role(role: str) -> str:
    if role not in ROLES:
        raise UsageError(f"unknown role {role!r} of a MESSAGE", next_step=f"use {', '.join(ROLES)}")
    return role


def _version(text: str) -> str:
    if not SEMVER.fullmatch(text):
        raise UsageError(f"REQUIRES {text!r} is not a version", next_step="write it as 0.34.2")
    return text.removeprefix("v")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
