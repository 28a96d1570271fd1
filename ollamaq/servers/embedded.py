"""llama.cpp in this process (``xllamacpp``, extra ``embedded``), over the model store of this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from ollamaq.errors import ServerError, ToolchainError
from ollamaq.modelfile.model import Modelfile
from ollamaq.ollama.store import Store, default_root
from ollamaq.quantize import default_threads
from ollamaq.servers.target import Message, Progress, Reply

CONTEXT = 4096
"""Tokens; Ollama's own default."""

PARAMETERS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repeat_penalty",
    "seed": "seed",
    "stop": "stop",
    "num_predict": "max_tokens",
}
"""Ollama's names and llama.cpp's."""


class Embedded:
    """Models are kept in the store, where an Ollama server of this machine finds them, and run here."""

    engine = "xllamacpp"

    def __init__(self, root: Path | None = None) -> None:
        self.store = Store(root or default_root())
        self.label = f"the store {self.store.root}"
        self.version = ""
        self._running: tuple[str, Any] | None = None

    def __enter__(self) -> Self:
        try:
            import xllamacpp  # noqa: F401
        except ImportError as error:
            raise ToolchainError(
                f"the embedded engine cannot be used: {error}", next_step="pip install 'ollamaq[embedded]'"
            ) from error
        self.version = version("xllamacpp")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running = None

    def digest(self, name: str) -> str | None:
        """The digest of the model's manifest, or None where there is no such model."""
        return self.store.digest(name)

    def create(self, name: str, gguf: Path, sha256: str, modelfile: Modelfile, progress: Progress) -> bool:
        """Put a model into the store. False when its GGUF was there already."""
        return self.store.create(name, gguf, sha256, modelfile, progress)

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        self.store.copy(source, destination)

    def delete(self, name: str) -> None:
        """Remove a model."""
        self._running = None
        self.store.delete(name)

    def template(self, name: str) -> str:
        """The TEMPLATE, or else the GGUF's own."""
        from ollamaq.gguf.reader import read_gguf

        own = read_gguf(self.store.model_path(name)).metadata.get("tokenizer.chat_template")
        return self.store.layer(name, "template") or (own.value if own else "")

    def render(self, name: str, messages: Sequence[Message]) -> str:
        """The prompt, by llama.cpp's own Jinja engine."""
        body = {"messages": self._with_system(name, messages)}
        try:
            answer = httpx.post(f"{self._server(name).listening_address}/apply-template", json=body, trust_env=False)
        except httpx.HTTPError as error:
            raise ServerError(f"the embedded engine does not answer: {error}", next_step="publish again") from error
        if answer.is_error:
            raise ServerError(f"the embedded engine cannot render a prompt: {answer.text[:300]}")
        return str(answer.json()["prompt"])

    def chat(self, name: str, messages: Sequence[Message], options: Mapping[str, Any]) -> Reply:
        """Ask, and wait for the whole answer."""
        chosen = json.loads(self.store.layer(name, "params") or "{}") | options
        request = {PARAMETERS[key]: value for key, value in chosen.items() if key in PARAMETERS}
        request["messages"] = self._with_system(name, messages)
        answer = self._server(name).handle_chat_completions(request)
        if "choices" not in answer:
            raise ServerError(f"the embedded engine cannot answer: {str(answer)[:300]}")
        choice, usage, timings = answer["choices"][0], answer["usage"], answer.get("timings", {})
        seconds = (timings.get("prompt_ms", 0) + timings.get("predicted_ms", 0)) / 1000
        text = choice["message"].get("content") or ""
        return Reply(text, choice["finish_reason"], usage["prompt_tokens"], usage["completion_tokens"], seconds)

    def _with_system(self, name: str, messages: Sequence[Message]) -> list[Message]:
        system = self.store.layer(name, "system")
        if system and not (messages and messages[0]["role"] == "system"):
            return [{"role": "system", "content": system}, *messages]
        return list(messages)

    def _server(self, name: str) -> Any:
        """llama.cpp with the model loaded; one model at a time."""
        import xllamacpp

        if self._running is None or self._running[0] != name:
            self._running = None
            parameters = xllamacpp.CommonParams()
            parameters.model.path = str(self.store.model_path(name))
            parameters.n_ctx = CONTEXT
            parameters.n_parallel = 1
            parameters.use_jinja = True
            parameters.warmup = False
            parameters.verbosity = -1
            parameters.cpuparams.n_threads = default_threads()
            try:
                self._running = name, xllamacpp.Server(parameters)
            except RuntimeError as error:
                raise ServerError(
                    f"llama.cpp cannot load {name}: {error}",
                    next_step="see whether its architecture is supported there",
                ) from error
        return self._running[1]
