"""What differs between two models by their Modelfiles: in what they mean, not in how they are written."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ollamaq.modelfile.parameters import OPTIONS, read_parameter
from ollamaq.modelfile.parser import Document
from ollamaq.modelfile.shown import as_printed, go_value, lines

Meaning = dict[str, list[str]]
"""``FROM``, ``PARAMETER stop``, … with their values: several where all of them count, otherwise the one that does."""

_REPEATED = ("FROM", "DRAFT", "PARAMETER stop")


@dataclass(frozen=True)
class Change:
    """One difference: the values before and after; empty where there were or are none."""

    key: str
    old: tuple[str, ...]
    new: tuple[str, ...]

    def lines(self) -> list[str]:
        """The difference for people: lines that begin with ``-`` or ``+``, or for long texts the lines around it."""
        old, new = "\n".join(self.old), "\n".join(self.new)
        if "\n" not in old + new or self.key in _REPEATED:
            return [f"-{self.key} {value}" for value in self.old] + [f"+{self.key} {value}" for value in self.new]
        hunks = list(difflib.unified_diff(old.split("\n"), new.split("\n"), lineterm="", n=1))[2:]
        return [f" {self.key}", *hunks]


def meaning(document: Document) -> Meaning:
    """What a Modelfile says to Ollama, without what has no effect."""
    found: Meaning = {}
    for command in document.commands:
        key, value = command.keyword, command.value
        if key == "MESSAGE":
            value = f"{command.name}: {value}"
        elif key == "PARAMETER":
            option, key = OPTIONS.get(command.name), command.label
            if option and option.dropped:
                continue
            read = read_parameter(option.type, value) if option else None
            value = _plain(read) if read is not None else value
        if key in (*_REPEATED, "MESSAGE", "LICENSE"):
            found.setdefault(key, []).append(value)
        elif value:
            found[key] = [value]
    return _joined(found)


def server_meaning(shown: Mapping[str, Any]) -> Meaning:
    """The same of a model on a server, from what ``/api/show`` tells. FROM is not among it; TEMPLATE is what is in
    effect, be it the GGUF's own.
    """
    found: Meaning = {}
    for keyword, field in (("TEMPLATE", "template"), ("SYSTEM", "system"), ("LICENSE", "license")):
        if isinstance(value := shown.get(field), str) and value:
            found[keyword] = [value]
    if isinstance(requires := shown.get("requires"), str) and requires:
        found["REQUIRES"] = [requires]
    for name, text in lines(shown):
        value = go_value(name, text)
        found.setdefault(f"PARAMETER {name}", []).append(text if value is None else _plain(value))
    messages = shown.get("messages")
    if isinstance(messages, list):
        told = [message for message in messages if isinstance(message, dict)]
        found["MESSAGE"] = [f"{message.get('role')}: {message.get('content', '')}" for message in told]
    found |= {key: [value] for key, value in as_printed(shown).items() if key in ("RENDERER", "PARSER")}
    return _joined({key: values for key, values in found.items() if values})


def diff(old: Meaning, new: Meaning) -> list[Change]:
    """What has to change to come from ``old`` to ``new``."""
    keys = dict.fromkeys((*old, *new))
    pairs = ((key, old.get(key, []), new.get(key, [])) for key in keys)
    return [Change(key, tuple(a), tuple(b)) for key, a, b in pairs if a != b]


def comparable(a: Meaning, b: Meaning) -> tuple[Meaning, Meaning]:
    """Two meanings, one of them a server's, without what that leaves out unless both have it."""
    left_out = {key for key in ("FROM", "DRAFT", "TEMPLATE") if not (key in a and key in b)}
    first, second = ({key: values for key, values in side.items() if key not in left_out} for side in (a, b))
    return first, second


def _joined(found: Meaning) -> Meaning:
    """In the form in which servers tell it: licences as one text, and stops, whose order means nothing, sorted."""
    if "LICENSE" in found:
        found["LICENSE"] = ["\n".join(found["LICENSE"])]
    if "PARAMETER stop" in found:
        found["PARAMETER stop"] = sorted(set(found["PARAMETER stop"]))
    return found


def _plain(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.7g}" if isinstance(value, float) else str(value)
