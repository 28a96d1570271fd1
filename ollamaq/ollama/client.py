"""An Ollama server's HTTP API, as its ``api/types.go`` and ``server/routes.go`` have it."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from ollamaq.errors import ModelRefused, ServerError, ServerGone
from ollamaq.ollama import Progress, silent
from ollamaq.ollama.connection import MAX_REPLY, Connection, Json, ModelNotFound, ServerSilent

__all__ = ["Client", "Json", "ModelNotFound", "ServerGone", "ServerSilent"]

BLOCK = 1 << 20
RETRY_SECONDS = (1.0, 3.0, 9.0)
"""Pauses before an interrupted upload is tried again."""


class Client:
    """One Ollama server. Every method raises ServerError with the server's own sentence where it refuses.

    ``timeout`` is how many seconds it may be silent (default: OLLAMAQ_TIMEOUT, or ten minutes); ``headers`` are sent
    with every request (default: those that `access` finds in the environment for this server).

    Raises:
        UsageError: ``url`` is not a URL, or the environment's settings for it cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = Connection(url, silence=timeout, headers=headers, transport=transport)
        self.url = self._http.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def version(self) -> str:
        """The server's version; a build from source says ``0.0.0``."""
        version = self._http.call("GET", "/api/version", greeting=True).get("version")
        if not isinstance(version, str):
            raise self._http.not_ollama("/api/version does not tell a version")
        return version

    def tags(self) -> list[Json]:
        """The models it has: ``name``, ``digest``, ``size``, ``details``."""
        return self._models("/api/tags", "name", "digest")

    def ps(self) -> list[Json]:
        """The models in memory: ``name``, ``size``, ``size_vram``, ``context_length``."""
        return self._models("/api/ps", "name")

    def show(self, name: str, **more: Any) -> Json:
        """All about a model: ``template`` (the one in effect), ``parameters``, ``details``, ``capabilities``.

        ``more`` are further fields of the request: ``verbose``.
        """
        return self._http.call("POST", "/api/show", {"model": name, **more}, name=name, repeatable=True)

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name; a model that had it loses it."""
        self._http.call("POST", "/api/copy", {"source": source, "destination": destination}, name=source)

    def delete(self, name: str) -> None:
        self._http.call("DELETE", "/api/delete", {"model": name}, name=name)

    def unload(self, name: str) -> None:
        """Take a model out of memory."""
        body = {"model": name, "keep_alive": 0, "stream": False}
        self._http.call("POST", "/api/generate", body, name=name, repeatable=True)

    def create(self, request: Mapping[str, Any], progress: Progress = silent) -> None:
        """Make a model as ``modelfile.render.create_request`` says, of blobs that are there; success is waited for."""
        self._succeed("/api/create", dict(request), str(request.get("model")), "creating", progress)

    def pull(self, name: str, progress: Progress = silent, *, insecure: bool = False) -> None:
        """Have the server fetch a model from the registry that its name tells; ``insecure`` means by plain http."""
        self._succeed("/api/pull", {"model": name, "insecure": insecure}, name, "pulling", progress)

    def push(self, name: str, progress: Progress = silent, *, insecure: bool = False) -> None:
        """Have the server send a model to the registry that its name tells; ``insecure`` means by plain http."""
        self._succeed("/api/push", {"model": name, "insecure": insecure}, name, "pushing", progress)

    def embed(self, name: str, texts: Sequence[str], **more: Any) -> list[list[float]]:
        """An embedding of each text. ``more`` are further fields: ``truncate``, ``dimensions``, ``options``."""
        body = {"model": name, "input": list(texts), **more}
        found = self._http.call("POST", "/api/embed", body, name=name, repeatable=True).get("embeddings")
        if not isinstance(found, list) or len(found) != len(texts) or not all(isinstance(row, list) for row in found):
            raise self._http.not_ollama(f"/api/embed has not {len(texts)} embeddings")
        return found

    def chat(
        self,
        name: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        options: Mapping[str, Any] | None = None,
        on_text: Callable[[str], None] = lambda text: None,
        **more: Any,
    ) -> Json:
        """Chat, told piece by piece to ``on_text``. The last event, with the whole ``message`` in it.

        A message's ``images`` may be bytes or base64. ``more`` are further fields of the request: ``tools``,
        ``format`` (``"json"`` or a JSON schema), ``think``, ``keep_alive``.
        """
        body = {"model": name, "messages": list(map(_encoded, messages)), "options": dict(options or {}), **more}
        message = _Pieces("content")

        def put(event: Json) -> None:
            told = event.get("message")
            piece = told if isinstance(told, dict) else {}
            message.add(piece)
            on_text(str(piece.get("content") or ""))

        last = self._answer("/api/chat", body, name, put)
        return last | {"message": {"role": "assistant", **message.whole()}}

    def generate(
        self,
        name: str,
        prompt: str,
        *,
        options: Mapping[str, Any] | None = None,
        on_text: Callable[[str], None] = lambda text: None,
        **more: Any,
    ) -> Json:
        """Complete a prompt. The last event, with the whole ``response`` in it.

        ``more`` as in ``chat``, or ``images``, ``suffix``, ``system``, ``raw``.
        """
        body = {"model": name, "prompt": prompt, "options": dict(options or {}), **_encoded(more)}
        answer = _Pieces("response")

        def put(event: Json) -> None:
            answer.add(event)
            on_text(str(event.get("response") or ""))

        return self._answer("/api/generate", body, name, put) | answer.whole()

    def render(self, name: str, messages: Sequence[Mapping[str, Any]], **more: Any) -> str:
        """The prompt that ``chat`` would send to the model, which is loaded for it."""
        body = {"model": name, "messages": list(map(_encoded, messages)), **more, "stream": False}
        body["_debug_render_only"] = True
        body["options"] = {"num_predict": 1}  # for servers that do not know the word, and answer
        info = self._http.call("POST", "/api/chat", body, name=name, repeatable=True).get("_debug_info")
        rendered = info.get("rendered_template") if isinstance(info, dict) else None
        if not isinstance(rendered, str):
            raise ServerError(
                f"{self.url} does not show the prompts it renders", next_step="run Ollama 0.30 or newer there"
            )
        return rendered

    def has_blob(self, digest: str) -> bool:
        """Whether the server has a blob already; ``digest`` is ``sha256:<hex>``."""
        with self._http.open("HEAD", f"/api/blobs/{digest}", allowed=404, repeatable=True) as response:
            return response.status_code != 404

    def push_blob(self, digest: str, path: Path, progress: Progress = silent, *, label: str = "uploading") -> bool:
        """Send a file, unless the server has it. True when it was sent.

        A broken connection is tried again from the start (Ollama cannot resume an upload).

        Raises:
            ServerGone: the connection broke each time; says how far it got.
            ModelRefused: the file cannot be read.
        """
        if self.has_blob(digest):
            return False
        furthest = 0

        def blocks(total: int) -> Iterator[bytes]:
            nonlocal furthest
            done = 0
            with path.open("rb", buffering=0) as file:
                while block := file.read(BLOCK):
                    yield block
                    done += len(block)
                    furthest = max(furthest, done)
                    progress(label, done, total)

        lost = None
        for pause in (0.0, *RETRY_SECONDS):
            time.sleep(pause)
            try:
                if lost and self.has_blob(digest):  # it arrived, and only the answer was lost
                    return True
                total = path.stat().st_size
                headers = {"Content-Length": str(total), "Content-Type": "application/octet-stream"}
                with self._http.open("POST", f"/api/blobs/{digest}", content=blocks(total), headers=headers):
                    return True
            except OSError as error:
                raise ModelRefused(f"cannot read {path}: {error.strerror}", next_step="publish again") from error
            except ServerSilent:
                raise
            except ServerGone as error:
                lost = error
        raise ServerGone(
            f"{self.url} was lost after {furthest / 1e6:.1f} of {total / 1e6:.1f} MB of {path.name}",
            next_step="see the server's log and the room on its disk, then publish again",
        ) from lost

    def _models(self, path: str, *fields: str) -> list[Json]:
        models = self._http.call("GET", path, repeatable=True).get("models") or []
        if not isinstance(models, list) or not all(
            isinstance(model, dict) and model.keys() >= {*fields} for model in models
        ):
            raise self._http.not_ollama(f"{path} does not list models")
        return models

    def _succeed(self, path: str, body: Json, name: str, doing: str, progress: Progress) -> None:
        for event in self._http.events(path, body | {"stream": True}, name=name):
            status = str(event.get("status", ""))
            if status == "success":
                return
            progress(status, _count(event, "completed"), _count(event, "total"))
        raise ServerError(
            f"{self.url} stopped in the middle of {doing} {name}", next_step="see the server's log, then try again"
        )

    def _answer(self, path: str, body: Json, name: str, put: Callable[[Json], None]) -> Json:
        """The last event of an answer, all of whose events are told to ``put``."""
        for event in self._http.events(path, body | {"stream": True}, name=name, limit=MAX_REPLY):
            put(event)
            if event.get("done"):
                return event
        raise ServerError(f"{self.url} stopped in the middle of an answer of {name}", next_step="see the server's log")


class _Pieces:
    """What comes in pieces, put together again."""

    def __init__(self, text: str) -> None:
        self._found: dict[str, list[Any]] = {text: []}
        self._texts = {text, "thinking"}

    def add(self, piece: Mapping[str, Any]) -> None:
        for key in (*self._texts, "tool_calls"):
            value = piece.get(key)
            if key in self._texts and isinstance(value, str):
                self._found.setdefault(key, []).append(value)
            elif key == "tool_calls" and isinstance(value, list):
                self._found.setdefault(key, []).extend(value)

    def whole(self) -> Json:
        return {key: "".join(found) if key in self._texts else found for key, found in self._found.items()}


def _encoded(fields: Mapping[str, Any]) -> Json:
    """Fields of which ``images`` are as JSON can hold them."""
    if not fields.get("images"):
        return dict(fields)
    images = [base64.b64encode(image).decode() if isinstance(image, bytes) else image for image in fields["images"]]
    return {**fields, "images": images}


def _count(event: Json, key: str) -> int:
    value = event.get(key)
    return value if isinstance(value, int) else 0
