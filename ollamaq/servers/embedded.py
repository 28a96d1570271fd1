"""llama.cpp in this process (``xllamacpp``, extra ``embedded``), over the model store of this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from ollamaq.chat.carried import llama_request
from ollamaq.chat.selection import claims_of_jinja
from ollamaq.errors import ServerError, ToolchainError
from ollamaq.files import Blob
from ollamaq.modelfile.model import Modelfile
from ollamaq.ollama.store import Store, default_root
from ollamaq.quantize import default_threads
from ollamaq.servers.target import Loaded, Message, Progress, Reply, Unsupported, tool_calls

CONTEXT = 4096
"""Tokens; Ollama's own default."""

SECONDS = 60.0
"""To render a prompt, which takes far less."""

RENAMED = {"num_predict": "max_tokens"}
"""Ollama's names that llama.cpp has others for."""

DEFAULTS = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Ollama's (``api.DefaultOptions``): llama.cpp has others, and takes some from the GGUF."""

SETTINGS = {*DEFAULTS, "seed", "stop", "num_predict"}
"""Parameters of a request; those of loading but ``num_ctx`` are for other machines than this."""


class Embedded:
    """Models are kept in the store, where an Ollama server of this machine finds them, and run here."""

    engine = "xllamacpp"

    def __init__(self, root: Path | None = None) -> None:
        self.store = Store(root or default_root())
        self.label = f"the store {self.store.root}"
        self.version = ""
        self.pinned: str | None = None
        self._running: tuple[tuple[str | None, bool], Any] | None = None

    def __enter__(self) -> Self:
        try:
            import xllamacpp  # noqa: F401
        except (ImportError, OSError) as error:
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

    def create(
        self,
        name: str,
        gguf: Path,
        sha256: str,
        modelfile: Modelfile,
        progress: Progress,
        projector: Blob | None = None,
    ) -> bool:
        """Put a model into the store. False when its GGUF was there already."""
        return self.store.create(name, gguf, sha256, modelfile, progress, projector)

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        self.store.copy(source, destination)

    def delete(self, name: str) -> None:
        """Remove a model."""
        self._running = None
        self.store.delete(name)

    def weights(self, name: str) -> str:
        """SHA-256 of the model's GGUF, by which the store names it."""
        return self.store.model_path(name).name.removeprefix("sha256-")

    def show(self, name: str) -> Mapping[str, Any]:
        """Not here: a store has no API."""
        raise Unsupported("a store tells no more than a model's files")

    def template(self, name: str) -> str:
        """The TEMPLATE, or else the GGUF's own."""
        from ollamaq.gguf.reader import read_gguf

        own = read_gguf(self.store.model_path(name)).metadata.get("tokenizer.chat_template")
        return self.store.layer(name, "template") or (own.value if own else "")

    def capabilities(self, name: str) -> Collection[str]:
        """What an Ollama server would believe that the model can do."""
        return claims_of_jinja(self.template(name))

    def render(self, name: str, messages: Sequence[Message], **more: Any) -> str:
        """The prompt, by llama.cpp's own Jinja engine, of what a server would hand to it."""
        body = llama_request(self._conversation(name, messages), **more)
        return str(_wanted(self._posted(name, "apply-template", body), "prompt"))

    def tokenize(self, name: str, text: str) -> list[int]:
        """Token ids of a text by llama.cpp and the GGUF's vocabulary."""
        body = {"content": text, "add_special": False, "parse_special": True}
        return list(_wanted(self._posted(name, "tokenize", body), "tokens"))

    def _posted(self, name: str, path: str, body: Mapping[str, Any]) -> Any:
        url = f"{self._server(name).listening_address}/{path}"
        try:
            return httpx.post(url, json=body, trust_env=False, timeout=SECONDS).json()
        except (httpx.HTTPError, ValueError) as error:
            raise ServerError(f"the embedded engine does not answer: {error}", next_step="publish again") from error

    def log(self) -> str:
        """Nothing: it keeps none."""
        return ""

    def chat(self, name: str, messages: Sequence[Message], options: Mapping[str, Any], **more: Any) -> Reply:
        """Ask, and wait for the whole answer."""
        chosen = {**DEFAULTS, **self._parameters(name), **options}
        request = {RENAMED.get(key, key): value for key, value in chosen.items() if key in SETTINGS}
        request["messages"] = self._conversation(name, messages)
        request |= _as_llama_cpp(more)
        server = self._server(name)
        answer = self._answer(lambda: server.handle_chat_completions(request))
        choice, usage, timings = _wanted(answer, "choices")[0], answer["usage"], answer.get("timings", {})
        prompt, predicted = timings.get("prompt_ms"), timings.get("predicted_ms")
        return Reply(
            choice["message"].get("content") or "",
            "stop" if choice["finish_reason"] == "tool_calls" else choice["finish_reason"],
            usage["prompt_tokens"],
            usage["completion_tokens"],
            ((prompt or 0) + (predicted or 0)) / 1000,
            thinking=choice["message"].get("reasoning_content") or "",
            tool_calls=tool_calls(choice["message"]),
            first_token=None if prompt is None else prompt / 1000,
            tokens_per_second=timings.get("predicted_per_second"),
        )

    def embed(self, name: str, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text; the model is loaded anew for it."""
        from ollamaq.gguf.reader import read_gguf

        metadata = read_gguf(self.store.model_path(name)).metadata
        if not any(key.endswith(".pooling_type") and value.value for key, value in metadata.items()):
            # llama.cpp would load it, refuse the texts, and then sometimes never end
            raise ServerError(
                f"{name} does not embed: its GGUF has no pooling_type", next_step="ask it, or embed others"
            )
        server = self._server(name, embedding=True)
        answer = self._answer(lambda: server.handle_embeddings({"input": list(texts)}))
        return [row["embedding"] for row in _wanted(answer, "data")]

    def loaded(self, name: str) -> Loaded:
        """Nothing: a model's memory is part of this process's."""
        raise Unsupported("the embedded engine does not tell what memory a model takes")

    @staticmethod
    def _answer(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except RuntimeError as error:
            raise ServerError(f"the embedded engine does not answer: {error}", next_step="publish again") from error

    def _parameters(self, name: str) -> dict[str, Any]:
        parameters: dict[str, Any] = json.loads(self.store.layer(name, "params") or "{}")
        return parameters

    def _conversation(self, name: str, messages: Sequence[Message]) -> list[Message]:
        """The messages, behind those of the Modelfile; its system prompt comes first where they bring none."""
        before: list[Message] = json.loads(self.store.layer(name, "messages") or "[]")
        system = self.store.layer(name, "system")
        if system and not (messages and messages[0].get("role") == "system"):
            before.insert(0, {"role": "system", "content": system})
        return [_with_pictures(message) for message in (*before, *messages)]

    def _server(self, name: str, *, embedding: bool = False) -> Any:
        """llama.cpp with the model loaded, to chat or to embed; one model at a time."""
        import xllamacpp

        wanted = self.store.digest(name), embedding
        if self._running is None or self._running[0] != wanted:
            self._running = None
            if self.store.layer(name, "template"):
                raise ServerError(
                    f"{name} has a TEMPLATE in Ollama's own language, which the embedded engine does not know",
                    next_step="test it with --to container, or on a server",
                )
            parameters = xllamacpp.CommonParams()
            parameters.model.path = str(self.store.model_path(name))
            if projector := self.store.projector_path(name):
                parameters.mmproj.path = str(projector)
            parameters.n_ctx = self._parameters(name).get("num_ctx", CONTEXT)
            parameters.n_parallel = 1
            parameters.embedding = embedding
            parameters.use_jinja = True
            parameters.warmup = parameters.ui = False
            parameters.cache_ram_mib = 0  # conversations are short: no need to keep what was worked out
            parameters.verbosity = -1
            parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = default_threads()
            try:
                self._running = wanted, xllamacpp.Server(parameters)
                self._get_going(self._running[1])
            except RuntimeError as error:
                raise ServerError(
                    f"llama.cpp cannot load {name}: {error}",
                    next_step="see whether its architecture and its chat template are supported there",
                ) from error
        return self._running[1]

    def _get_going(self, server: Any) -> None:
        """Wait until it works on its queue: ended before that, it would not hear of its end, and never come to it."""
        try:
            httpx.get(f"{server.listening_address}/slots", trust_env=False, timeout=SECONDS)
        except httpx.HTTPError as error:
            raise ServerError(f"the embedded engine does not answer: {error}", next_step="publish again") from error


def _with_pictures(message: Message) -> Message:
    """A message with Ollama's ``images`` (in base64) as llama.cpp takes them."""
    if not message.get("images"):
        return message
    pictures = [{"url": f"data:image/png;base64,{image}"} for image in message["images"]]
    parts = [{"type": "image_url", "image_url": picture} for picture in pictures]
    rest = {key: value for key, value in message.items() if key != "images"}
    return rest | {"content": [*parts, {"type": "text", "text": message["content"]}]}


def _as_llama_cpp(more: Mapping[str, Any]) -> dict[str, Any]:
    """``tools``, ``format`` and ``think`` of Ollama's API as llama.cpp's has them."""
    request: dict[str, Any] = {}
    if more.get("tools"):
        request["tools"] = more["tools"]
    if more.get("format") == "json":
        request["response_format"] = {"type": "json_object"}
    elif more.get("format"):
        request["response_format"] = {"type": "json_schema", "json_schema": {"schema": more["format"]}}
    if more.get("think") is not None:
        request["chat_template_kwargs"] = {"enable_thinking": bool(more["think"])}
    return request


def _wanted(answer: Mapping[str, Any], key: str) -> Any:
    if key in answer:
        return answer[key]
    error = answer.get("error")
    said = error.get("message") if isinstance(error, dict) else None
    raise ServerError(f"the embedded engine refuses: {said or str(answer)[:300]}", next_step="mend the model")
