"""What each line of a Modelfile will do, in words, on a version of Ollama."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ollamaq.modelfile.parameters import OPTIONS, read_parameter
from ollamaq.modelfile.parser import Command, Document
from ollamaq.modelfile.source import Kind, resolve
from ollamaq.modelfile.versions import FINISHED_ONLY, JINJA, SINCE, Version, written

ONCE = ("TEMPLATE", "SYSTEM", "RENDERER", "PARSER", "REQUIRES")


@dataclass(frozen=True)
class _Line:
    """A command in its surroundings."""

    command: Command
    document: Document
    directory: Path
    ollama: Version

    @property
    def value(self) -> str:
        return self.command.value

    def has(self, keyword: str) -> bool:
        return any(command.keyword == keyword and command.value for command in self.document.commands)


def explain(document: Document, directory: Path, ollama: Version) -> list[tuple[Command, str]]:
    """Every command with a sentence on what it does."""
    last = {command.label: command for command in document.commands}
    told = []
    for command in document.commands:
        line = _Line(command, document, directory, ollama)
        if (since := SINCE.get(command.keyword, (0,))) > ollama:
            sentence = f"refused: Ollama knows {command.keyword} since {written(since)}"
        elif command is not last[command.label] and _counts_once(command):
            sentence = f"does nothing: line {document.place(last[command.label].start)[0]} says it again"
        else:
            sentence = _SENTENCES[command.keyword](line)
        told.append((command, sentence))
    return told


def _counts_once(command: Command) -> bool:
    return command.keyword in ONCE or (command.keyword == "PARAMETER" and command.name != "stop")


def _from(line: _Line) -> str:
    source = resolve(line.value, line.directory)
    if source.kind is Kind.NAME:
        return (
            f"builds on the model {line.value}, which is pulled if the server does not have it, and takes over its "
            "template, system message, parameters and licence where nothing is said here"
        )
    if source.kind is Kind.MISSING:
        return "there is no such file: Ollama takes this for a model's name, asks its registry for it, and fails"
    if source.kind is Kind.SAFETENSORS:
        if line.ollama >= FINISHED_ONLY:
            return "imports the safetensors as an MLX model, if its architecture is one of those; nothing becomes GGUF"
        return "converts the safetensors to GGUF on the server, if it knows their architecture"
    if source.kind is Kind.UNKNOWN:
        return "uploads the files that match"
    if source.kind is Kind.OTHER:
        return "there is something, but no GGUF: Ollama refuses it"
    several = f"{len(source.paths)} files" if len(source.paths) > 1 else "the file"
    if line.ollama >= FINISHED_ONLY:
        return f"uploads {several} and uses them as they are" if len(source.paths) > 1 else "uploads the file as it is"
    return f"uploads {several}; the server writes the GGUF anew, so its digest changes"


def _template(line: _Line) -> str:
    if line.has("RENDERER"):
        return "is stored but not used: the RENDERER writes the prompts"
    if line.ollama >= JINJA:
        return (
            "is how a chat becomes a prompt, instead of the chat template in the GGUF, unless that one can do tools or "
            "thinking and this one cannot"
        )
    return "is how a chat becomes a prompt; the chat template in the GGUF is only compared with known ones"


def _system(line: _Line) -> str:
    if not line.value:
        return "does nothing: it is empty, and the system message of the model below stays"
    return "is the system message of chats that bring none of their own"


def _parameter(line: _Line) -> str:
    command, option = line.command, OPTIONS.get(line.command.name)
    if option is None:
        return f"refused: Ollama has no parameter {command.name!r}"
    if option.refused and line.ollama >= option.refused:
        return f"refused: Ollama has no {command.name} since {written(option.refused)}"
    if option.dropped and line.ollama >= option.dropped:
        return f"does nothing: Ollama drops it with a warning since {written(option.dropped)}"
    if line.ollama < option.since:
        return f"refused: Ollama has {command.name} since {written(option.since)}"
    value = read_parameter(option.type, line.value)
    if value is None:
        return f"refused: {line.value!r} is not a value of {command.name}"
    shown = repr(value) if option.type is list else line.value
    default = f"; without it {option.default}" if option.default else ""
    return option.does.format(shown) + default


def _message(line: _Line) -> str:
    return f"puts a message of the {line.command.name} in front of every chat in `ollama run`"


def _requires(line: _Line) -> str:
    return f"is stored and shown: Ollama {line.value} or newer should be used, which nothing enforces"


def _adapter(line: _Line) -> str:
    if line.ollama >= FINISHED_ONLY:
        return f"refused: Ollama takes no adapters since {written(FINISHED_ONLY)}"
    return "is added to the weights whenever the model is loaded"


_SENTENCES: dict[str, Callable[[_Line], str]] = {
    "FROM": _from,
    "TEMPLATE": _template,
    "SYSTEM": _system,
    "PARAMETER": _parameter,
    "MESSAGE": _message,
    "REQUIRES": _requires,
    "ADAPTER": _adapter,
    "LICENSE": lambda line: "is stored with the model; `ollama show --license` prints it",
    "DRAFT": lambda line: "uploads a small model that guesses ahead for the large one",
    "RENDERER": lambda line: "writes the prompts in Ollama's own code, whatever TEMPLATE and GGUF say",
    "PARSER": lambda line: "reads thinking and tool calls out of answers in Ollama's own code",
}
