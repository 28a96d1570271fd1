"""Somewhere a model can run and be kept: the protocol that servers, containers and the embedded engine share."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from ollamaq.errors import OllamaqError
from ollamaq.files import Blob
from ollamaq.modelfile.model import Modelfile

Message = Mapping[str, Any]
Progress = Callable[[str, int, int], None]
"""``progress(label, done, total)``, in bytes; ``total`` is 0 while unknown."""


class Unsupported(OllamaqError):
    """A place cannot do what it is asked; what was to be checked with it is not checked."""


@dataclass(frozen=True)
class ToolCall:
    """A tool that a model wants used."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """An answer: its text, why it ended (``stop``, ``length``), token counts, and seconds spent.

    ``first_token`` is the time until the first token, in seconds, without that of loading the model;
    ``tokens_per_second`` counts those of the answer.
    """

    text: str
    done_reason: str
    prompt_tokens: int
    answer_tokens: int
    seconds: float
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    first_token: float | None = None
    tokens_per_second: float | None = None


@dataclass(frozen=True)
class Loaded:
    """A model in memory, in bytes and tokens."""

    size: int
    size_vram: int
    context_length: int | None = None


class Target(Protocol):
    """A place to publish to. Entering starts it, leaving it removes what it started (never the models it keeps)."""

    label: str
    """What to call it in messages: ``http://127.0.0.1:11434``, ``container ollama/ollama:0.34.2``, ``embedded``."""
    engine: str
    """What runs models there: ``Ollama``, ``xllamacpp``."""
    version: str
    """Of the engine; known once entered."""
    pinned: str | None
    """The image it runs, by digest, where it is a container."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def digest(self, name: str) -> str | None:
        """The model's manifest digest (hex SHA-256), or None where there is no such model."""

    def create(
        self,
        name: str,
        gguf: Path,
        sha256: str,
        modelfile: Modelfile,
        progress: Progress,
        projector: Blob | None = None,
    ) -> bool:
        """Make a model of a finished GGUF. True when the blob had to be sent, False when it was there already."""

    def copy(self, source: str, destination: str) -> None: ...

    def delete(self, name: str) -> None: ...

    def weights(self, name: str) -> str:
        """SHA-256 of the model's GGUF, in hex."""

    def show(self, name: str) -> Mapping[str, Any]:
        """What ``/api/show`` tells.

        Raises:
            Unsupported: there is no such thing here.
        """

    def tokenize(self, name: str, text: str) -> list[int]:
        """Token ids of a text by the GGUF's vocabulary, special tokens where it spells them.

        Raises:
            Unsupported: this place does not tell them.
        """

    def template(self, name: str) -> str:
        """What renders the model: the GGUF's own Jinja, a Go TEMPLATE, or ``RENDERER`` and a name."""

    def capabilities(self, name: str) -> Collection[str]:
        """What it believes that the model can do: ``tools``, ``thinking``, …."""

    def render(self, name: str, messages: Sequence[Message], **more: Any) -> str:
        """The prompt as it will be tokenized (a leading BOS may or may not be spelt out).

        ``more`` are ``tools`` and ``think``, as Ollama's API has them.
        """

    def log(self) -> str:
        """The end of its log, or nothing where that is not ours to read."""

    def chat(self, name: str, messages: Sequence[Message], options: Mapping[str, Any], **more: Any) -> Reply:
        """Ask, and wait for the whole answer; ``more``: ``tools``, ``format``, ``think``, as in Ollama's API."""

    def embed(self, name: str, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text."""

    def loaded(self, name: str) -> Loaded:
        """What a model that was just asked takes of the memory.

        Raises:
            Unsupported: this place cannot tell.
        """


def tool_calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    """The calls of a message, as Ollama's API has them (arguments: an object) or OpenAI's (a text of JSON)."""
    found = []
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            arguments = function.get("arguments")
            if isinstance(arguments, str):
                try:
                    arguments = json.loads(arguments)
                except (ValueError, RecursionError):
                    arguments = {"": arguments}
            found.append(ToolCall(str(function.get("name", "")), arguments if isinstance(arguments, dict) else {}))
    return tuple(found)
