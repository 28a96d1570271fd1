"""What a rule is: what it sees, and what it says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from ollamaq.modelfile.facts import ModelFacts
from ollamaq.modelfile.parser import Command, Document
from ollamaq.modelfile.source import From, resolve
from ollamaq.modelfile.versions import NEWEST_VERSION, Version


class Severity(StrEnum):
    """An error: Ollama refuses it, or the model cannot be right. A warning: probably not what was meant."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Edit:
    """``text[start:end]`` becomes ``text``."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Problem:
    """Something wrong at ``document.text[start:end]``, and the edit that puts it right where that is safe."""

    message: str
    start: int
    end: int
    fix: Edit | None = None


@dataclass(frozen=True)
class Settings:
    """What a Modelfile is judged against: a version of Ollama, the model it is for where one is given, its name, and
    the bytes of memory that the server has.
    """

    ollama: Version = NEWEST_VERSION
    model: ModelFacts | None = None
    name: str | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Context:
    """One Modelfile, as the rules see it; paths in it are relative to ``directory``."""

    document: Document
    directory: Path
    settings: Settings = field(default_factory=Settings)

    @cached_property
    def by_keyword(self) -> dict[str, list[Command]]:
        found: dict[str, list[Command]] = {}
        for command in self.document.commands:
            found.setdefault(command.keyword, []).append(command)
        return found

    def all(self, *keywords: str) -> list[Command]:
        """The commands of these kinds, one kind after the other."""
        return [command for keyword in keywords for command in self.by_keyword.get(keyword, ())]

    def last(self, keyword: str) -> Command | None:
        """The command that counts where only one does."""
        return next(iter(self.all(keyword)[-1:]), None)

    def parameters(self, name: str) -> list[Command]:
        return [command for command in self.all("PARAMETER") if command.name == name]

    @cached_property
    def sources(self) -> list[tuple[Command, From]]:
        """Every FROM, with what it leads to."""
        return [(command, resolve(command.value, self.directory)) for command in self.all("FROM")]

    def written(self, command: Command) -> str:
        """A command's value as it is written, with its quotes."""
        return self.document.text[command.value_start : command.end]

    def removed(self, command: Command) -> Edit:
        """The edit that takes out a command, and the rest of its line."""
        text, end = self.document.text, command.end
        while end < len(text) and text[end] in " \t":
            end += 1
        if text.startswith("\r\n", end):
            end += 2
        elif end < len(text) and text[end] in "\r\n":
            end += 1
        return Edit(command.start, end, "")


Check = Callable[[Context], Iterator[Problem]]


@dataclass(frozen=True)
class Rule:
    """A rule by its stable id. The docstring of ``check`` explains it; ``bad`` breaks it, ``good`` keeps it."""

    id: str
    name: str
    severity: Severity
    check: Check
    bad: str
    good: str
    fixable: bool = False

    @property
    def why(self) -> str:
        return inspect.getdoc(self.check) or ""


def at(command: Command, message: str, fix: Edit | None = None) -> Problem:
    """A problem of a whole command."""
    return Problem(message, command.start, command.end, fix)


def at_value(command: Command, message: str, fix: Edit | None = None) -> Problem:
    """A problem of a command's value."""
    return Problem(message, command.value_start, command.end, fix)
