"""An Ollama server that can be reached."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ollamaq.errors import ServerError
from ollamaq.files import Blob
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.render import create_request
from ollamaq.modelfile.shown import in_effect
from ollamaq.ollama.client import Client
from ollamaq.ollama.names import parse_name
from ollamaq.servers.target import Loaded, Message, Progress, Reply, Unsupported, tool_calls


class RemoteServer:
    """A server that is there before and after."""

    engine = "Ollama"

    def __init__(self, client: Client) -> None:
        self.client = client
        self.label = client.url
        self.version = ""
        self.pinned: str | None = None

    def __enter__(self) -> Self:
        self.version = self.client.version()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def digest(self, name: str) -> str | None:
        """The model's manifest digest (hex SHA-256), or None where there is no such model."""
        wanted = str(parse_name(name)).lower()
        return next((str(tag["digest"]) for tag in self.client.tags() if str(tag["name"]).lower() == wanted), None)

    def create(
        self,
        name: str,
        gguf: Path,
        sha256: str,
        modelfile: Modelfile,
        progress: Progress,
        projector: Blob | None = None,
    ) -> bool:
        """Send the GGUF, unless the server has it (then False), and make a model of it."""
        digest = f"sha256:{sha256}"
        files = {"model.gguf": digest}
        if projector:
            files["mmproj.gguf"] = beside = f"sha256:{projector.sha256}"
            self.client.push_blob(beside, projector.path, progress, label=f"sending {projector.path.name}")
        request = create_request(modelfile, name, files)
        sent = self.client.push_blob(digest, gguf, progress, label=f"sending {gguf.name}")
        self.client.create(request, progress)
        return sent

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        self.client.copy(source, destination)

    def delete(self, name: str) -> None:
        """Remove a model."""
        self.client.delete(name)

    def weights(self, name: str) -> str:
        """SHA-256 of the model's GGUF: the first FROM of the Modelfile that the server prints is its blob."""
        first = re.search(r"^FROM .*sha256[-:]([0-9a-f]{64})\s*$", str(self.show(name).get("modelfile")), re.MULTILINE)
        if not first:
            raise ServerError(f"{self.label} does not tell the weights of {name}", next_step="is it a model of a GGUF?")
        return first[1]

    def show(self, name: str) -> Mapping[str, Any]:
        """What ``/api/show`` tells."""
        return self.client.show(name)

    def tokenize(self, name: str, text: str) -> list[int]:
        """Not here: Ollama tells no more than how many tokens there are."""
        raise Unsupported("Ollama does not tell token ids")

    def template(self, name: str) -> str:
        """What renders the model, as `modelfile.shown.in_effect` has it."""
        return in_effect(self.client.show(name))

    def capabilities(self, name: str) -> Collection[str]:
        """What the server believes that the model can do; servers before 0.6.4 tell nothing."""
        found = self.client.show(name).get("capabilities")
        return [str(one) for one in found] if isinstance(found, list) else []

    def render(self, name: str, messages: Sequence[Message], **more: Any) -> str:
        """The prompt as it will be tokenized."""
        return self.client.render(name, messages, **more)

    def log(self) -> str:
        """Nothing: it is not ours to read."""
        return ""

    def chat(self, name: str, messages: Sequence[Message], options: Mapping[str, Any], **more: Any) -> Reply:
        """Ask, and wait for the whole answer."""
        pieces: list[float] = []
        started = time.monotonic()
        answer = self.client.chat(
            name, messages, options=options, on_text=lambda text: pieces.append(time.monotonic()), **more
        )
        prompt_tokens, answer_tokens, nanoseconds, answering = (
            count if isinstance(count := answer.get(key), int) else 0
            for key in ("prompt_eval_count", "eval_count", "total_duration", "eval_duration")
        )
        loading = answer.get("load_duration")
        loading = loading / 1e9 if isinstance(loading, int) else 0.0
        message = answer["message"]
        return Reply(
            message["content"],
            str(answer.get("done_reason", "")),
            prompt_tokens,
            answer_tokens,
            nanoseconds / 1e9,
            thinking=message.get("thinking", ""),
            tool_calls=tool_calls(message),
            first_token=max(pieces[0] - started - loading, 0.0) if pieces else None,
            tokens_per_second=answer_tokens / answering * 1e9 if answering > 0 else None,
        )

    def embed(self, name: str, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text."""
        return self.client.embed(name, texts)

    def loaded(self, name: str) -> Loaded:
        """What ``/api/ps`` says of a model that was just asked."""
        wanted, digest = str(parse_name(name)).lower(), self.digest(name)
        for model in self.client.ps():
            # what is loaded already stays there under the name that it had then
            if str(model["name"]).lower() == wanted or (digest and model.get("digest") == digest):
                size, size_vram, context = (model.get(key) for key in ("size", "size_vram", "context_length"))
                if isinstance(size, int) and isinstance(size_vram, int):
                    return Loaded(size, size_vram, context if isinstance(context, int) else None)
        raise Unsupported(f"{self.label} does not tell what memory {name} takes")
