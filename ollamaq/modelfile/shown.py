"""The Modelfile of a model that a server has, from what ``/api/show`` tells of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ollamaq.modelfile.model import Modelfile, Parameter
from ollamaq.modelfile.parameters import CURRENT, OPTIONS, Value, read_parameter
from ollamaq.modelfile.parser import ROLES, ModelfileError, parse
from ollamaq.modelfile.render import render
from ollamaq.modelfile.source import LIKE_A_PATH

NO_TEMPLATE = "{{ .Prompt }}"
"""What a server prints as the TEMPLATE of a model that has none."""
RENDERER = "RENDERER "
"""Before the name of one, where that is what renders."""

_PARAMETER = re.compile(r"(\S+)[ ]+(.+)")
_GO_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')


@dataclass(frozen=True)
class Shown:
    """A model on a server. ``parent`` is the model that it was made of, if that had a name; ``unwritten`` says what no
    Modelfile can hold.

    ``/api/show`` tells REQUIRES in a field alone, RENDERER, PARSER and the stored TEMPLATE in its printed Modelfile
    alone, parameters in no order, and FROM as a path of its own store, which is not taken over.
    """

    modelfile: Modelfile
    parent: str | None
    unwritten: tuple[str, ...] = ()


def read_shown(shown: Mapping[str, Any], name: str) -> Shown:
    """What a server tells of the model ``name``; FROM is its parent's name, or else its own."""
    parent = _text(shown.get("details"), "parent_model")
    parent = None if parent and LIKE_A_PATH.match(parent) else parent
    parameters, unwritten = _parameters(shown)
    printed = as_printed(shown)
    messages = tuple(_messages(shown))
    template = printed.get("TEMPLATE")
    licence = _text(shown, "license")
    return Shown(
        Modelfile(
            from_=parent or name,
            template=None if template == NO_TEMPLATE else template,
            system=_text(shown, "system"),
            parameters={key: parameters[key] for key in CURRENT if key in parameters},
            licenses=(licence,) if licence else (),
            messages=messages,
            renderer=printed.get("RENDERER"),
            parser=printed.get("PARSER"),
            requires=_text(shown, "requires"),
        ),
        parent,
        tuple(unwritten),
    )


def written(shown: Shown, base: Shown | None, from_: str | None = None) -> str:
    """The text of the Modelfile. Its FROM is ``from_`` or a model's name: then the licence of that, ``base``, comes
    with it, and would be there twice if it were written.

    Raises:
        UsageError: something in it cannot be written in Ollama's grammar.
    """
    modelfile = shown.modelfile
    notes = [f"# left out: {text}" for text in shown.unwritten]
    if from_:
        modelfile = replace(modelfile, from_=from_)
    elif base:
        licence, inherited = "\n".join(modelfile.licenses), "\n".join(base.modelfile.licenses)
        if inherited and licence.startswith(inherited):
            own = licence[len(inherited) :].lstrip("\n")
            modelfile = replace(modelfile, licenses=(own,) if own else ())
            notes.append(f"# the LICENSE of {modelfile.from_} comes with it")
    return "".join(f"{note}\n" for note in notes) + render(modelfile)


def go_value(name: str, text: str) -> Value | None:
    """The value of a parameter, printed as Go's ``%#v`` does; None if it is not one of that parameter's.

    Numbers were floats on their way: 1048576 is printed as ``1.048576e+06``.
    """
    if _GO_STRING.fullmatch(text):
        try:
            text = str(ast.literal_eval(text))
        except (SyntaxError, ValueError):
            return None
    option = OPTIONS.get(name)
    if option is None:
        return None
    number = read_parameter(float, text) if option.type is int else None
    if isinstance(number, float) and number.is_integer():
        return int(number)
    return read_parameter(option.type, text)


def lines(shown: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and printed values of its parameters."""
    for line in str(shown.get("parameters") or "").splitlines():
        if match := _PARAMETER.fullmatch(line.strip()):
            yield match[1], match[2].strip()


def in_effect(shown: Mapping[str, Any]) -> str:
    """What renders the model: the text of a template, Go's or the GGUF's own, or ``RENDERER`` and a name."""
    renderer = as_printed(shown).get("RENDERER")
    return RENDERER + renderer if renderer else str(shown.get("template") or "")


def as_printed(shown: Mapping[str, Any]) -> dict[str, str]:
    """The last value of each instruction in the Modelfile that it prints; none where that does not read back."""
    try:
        commands = parse(str(shown.get("modelfile") or "")).commands
    except ModelfileError:
        return {}
    return {command.keyword: command.value for command in commands if command.value}


def _parameters(shown: Mapping[str, Any]) -> tuple[dict[str, Parameter], list[str]]:
    found: dict[str, Parameter] = {}
    unwritten = []
    for name, text in lines(shown):
        value = go_value(name, text) if name in CURRENT else None
        if value is None:
            unwritten.append(f"PARAMETER {name} {text}"[:200])
        elif CURRENT[name].type is list:
            stops = found.setdefault(name, [])
            assert isinstance(stops, list)
            stops.append(str(value))
        else:
            found[name] = value
    return found, unwritten


def _messages(shown: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    told = shown.get("messages")
    for message in told if isinstance(told, list) else ():
        if isinstance(message, dict) and message.get("role") in ROLES:
            yield str(message["role"]), str(message.get("content", ""))


def _text(told: Any, key: str) -> str | None:
    value = told.get(key) if isinstance(told, Mapping) else None
    return value if isinstance(value, str) and value else None
