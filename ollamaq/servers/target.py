"""Somewhere a model can run and be kept: the protocol that servers, containers and the embedded engine share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from ollamaq.files import Blob
from ollamaq.modelfile.model import Modelfile

Message = Mapping[str, Any]
Progress = Callable[[str, int, int], None]
"""``progress(label, done, total)``, in bytes; ``total`` is 0 while unknown."""


@dataclass(frozen=True)
class Reply:
    """An answer: its text, why it ended (``stop``, ``length``), token counts, and seconds spent."""

    text: str
    done_reason: str
    prompt_tokens: int
    answer_tokens: int
    seconds: float


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

    def template(self, name: str) -> str:
        """The template in effect: the Jinja source when the GGUF's own is used, else the Go TEMPLATE."""

    def render(self, name: str, messages: Sequence[Message]) -> str:
        """The prompt as it will be tokenized (a leading BOS may or may not be spelt out)."""

    def log(self) -> str:
        """The end of its log, or nothing where that is not ours to read."""

    def chat(self, name: str, messages: Sequence[Message], options: Mapping[str, Any]) -> Reply: ...
