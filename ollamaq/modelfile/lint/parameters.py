"""Rules on PARAMETER."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ollamaq.modelfile.lint.rule import Context, Edit, Problem, at, at_value
from ollamaq.modelfile.parameters import OPTIONS, read_parameter
from ollamaq.modelfile.parser import Command
from ollamaq.modelfile.versions import written
from ollamaq.modelfile.words import did_you_mean

_KINDS = {int: "an integer", float: "a number", bool: "true or false"}


def unknown_parameter(c: Context) -> Iterator[Problem]:
    """``ollama create`` stops at a parameter it does not know. The server itself, asked by other clients, accepts any
    name and ignores it. Names are in lower case. One that is the name of an instruction is taken for that:
    ``PARAMETER system …`` is a SYSTEM.
    """
    for command in c.all("PARAMETER"):
        if command.name and command.name not in OPTIONS:
            known = [name for name, option in OPTIONS.items() if not option.dropped and not option.refused]
            yield at(command, f"unknown parameter {command.name!r}{did_you_mean(command.name.lower(), known)}")


def blanks_before_name(c: Context) -> Iterator[Problem]:
    """Behind PARAMETER there may be one blank; a second one ends the name before it began, and Ollama says
    ``unknown parameter ''``.
    """
    for command in c.all("PARAMETER"):
        if not command.name:
            blanks = command.start + len("PARAMETER")
            fix = Edit(blanks, command.value_start, " ")
            yield at(command, "one blank too many between PARAMETER and its name", fix)


def wrong_type(c: Context) -> Iterator[Problem]:
    """``ollama create`` stops at a value that is not of the parameter's type. Integers have no point, and truth is
    ``true`` or ``false``.
    """
    for command, value in _values(c):
        if value is None:
            kind = _KINDS.get(OPTIONS[command.name].type, "a text")
            yield at_value(command, f"{command.name} must be {kind}, not {command.value!r}")


def removed_parameter(c: Context) -> Iterator[Problem]:
    """Parameters that Ollama no longer has: some it drops with a warning, which the fix does too; at others
    ``ollama create`` stops.
    """
    for command in c.all("PARAMETER"):
        option = OPTIONS.get(command.name)
        if option and option.dropped and c.settings.ollama >= option.dropped:
            since = written(option.dropped)
            yield at(command, f"{command.name} does nothing since Ollama {since}", c.removed(command))
        elif option and option.refused and c.settings.ollama >= option.refused:
            yield at(command, f"Ollama refuses {command.name} since {written(option.refused)}")


def out_of_range(c: Context) -> Iterator[Problem]:
    """Ollama checks types, not values: a number outside of what makes sense is stored, and fails or misbehaves when the
    model runs.
    """
    for command, value in _values(c):
        option = OPTIONS[command.name]
        if isinstance(value, str | bool | None):
            continue
        if not math.isfinite(value):
            yield at_value(command, f"{command.name} is {command.value}, which is no number to work with")
        elif option.low is not None and value < option.low:
            yield at_value(command, f"{command.name} is {command.value}; the least that makes sense is {option.low}")
        elif option.high is not None and value > option.high:
            yield at_value(command, f"{command.name} is {command.value}; the most that makes sense is {option.high}")


def repeated_parameter(c: Context) -> Iterator[Problem]:
    """Only ``stop`` may repeat; of any other parameter the last value counts. The fix removes those before it."""
    last = {command.name: command for command in c.all("PARAMETER")}
    for command in c.all("PARAMETER"):
        if command.name in OPTIONS and command.name != "stop" and command is not last[command.name]:
            line = c.document.place(last[command.name].start)[0]
            yield at(command, f"only the last {command.name} counts, on line {line}", c.removed(command))


def repeated_stop(c: Context) -> Iterator[Problem]:
    """The same stop twice does what it does once."""
    seen: set[str] = set()
    for command in c.parameters("stop"):
        if command.value in seen:
            yield at(command, f"the stop {command.value!r} is there already", c.removed(command))
        seen.add(command.value)


def _values(c: Context) -> Iterator[tuple[Command, str | int | float | bool | None]]:
    for command in c.all("PARAMETER"):
        option = OPTIONS.get(command.name)
        if option and not option.dropped and not option.refused:
            yield command, read_parameter(option.type, command.value)
