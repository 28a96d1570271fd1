"""Ollama's HTTP API. httpx stays behind this module."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from ollamaq.errors import ModelRefused, ServerError, UsageError
from ollamaq.ollama import Progress, silent

Json = dict[str, Any]

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 600.0
"""A server that loads a big model from a slow disk says nothing for minutes."""
GREETING_SECONDS = 10.0
"""For a server to tell its version, which it does at once."""
BLOCK = 1 << 20
MAX_LINE = 8 << 20
"""Ollama's own client takes no longer lines either."""
MAX_REPLY = 64 << 20
MESSAGE_FIELDS: dict[str, type[str] | type[list[Any]]] = {"content": str, "thinking": str, "tool_calls": list}
"""What comes in pieces, to be put together again."""
RETRY_SECONDS = (1.0, 3.0, 9.0)
"""Pauses before an interrupted upload is tried again."""


class ServerGone(ServerError):
    """Nobody answers, or the connection broke."""


class ModelNotFound(ServerError):
    """The server has no model of that name."""


class Client:
    """One Ollama server. Every method raises ServerError with the server's own sentence where it refuses.

    Raises:
        UsageError: ``url`` is not a URL.
    """

    def __init__(
        self, url: str, *, timeout: float = SILENCE_SECONDS, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._silence = httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
        self._greeting = httpx.Timeout(min(timeout, GREETING_SECONDS), connect=min(timeout, CONNECT_SECONDS))
        # a proxy in the environment is not meant for this machine: Go's client, and so `ollama`, never asks it there
        loopback: Mapping[str, None] = dict.fromkeys(f"all://{host}" for host in ("localhost", "127.0.0.1", "[::1]"))
        try:
            self._http = httpx.Client(base_url=self.url, timeout=self._silence, transport=transport, mounts=loopback)
        except (httpx.InvalidURL, ValueError) as error:
            raise UsageError(f"{url!r} is not a server's address: {error}", next_step="write host:port") from error

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
        version = self._call("GET", "/api/version", silence=self._greeting).get("version")
        if not isinstance(version, str):
            raise self._not_ollama("/api/version does not tell a version")
        return version

    def tags(self) -> list[Json]:
        """The models it has: ``name``, ``digest``, ``size``, ``details``."""
        return self._models("/api/tags", "name", "digest")

    def ps(self) -> list[Json]:
        """The models in memory: ``name``, ``size``, ``size_vram``, ``context_length``."""
        return self._models("/api/ps", "name")

    def show(self, name: str) -> Json:
        """All about a model: ``template`` (the one in effect), ``parameters``, ``details``, ``capabilities``."""
        return self._call("POST", "/api/show", {"model": name}, name=name)

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name; a model that had it loses it."""
        self._call("POST", "/api/copy", {"source": source, "destination": destination}, name=source)

    def delete(self, name: str) -> None:
        self._call("DELETE", "/api/delete", {"model": name}, name=name)

    def unload(self, name: str) -> None:
        """Take a model out of memory."""
        self._call("POST", "/api/generate", {"model": name, "keep_alive": 0, "stream": False}, name=name)

    def create(self, request: Mapping[str, Any], progress: Progress = silent) -> None:
        """Make a model as ``modelfile.render.create_request`` says, of blobs that are there; success is waited for."""
        name = str(request.get("model"))
        for event in self._events("/api/create", {**request, "stream": True}, name=name):
            status = str(event.get("status", ""))
            if status == "success":
                return
            progress(status, _count(event, "completed"), _count(event, "total"))
        raise ServerError(
            f"{self.url} stopped in the middle of creating {name}", next_step="see the server's log, then publish again"
        )

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

        ``more`` are further fields of the request: ``tools``, ``format``, ``think``, ``keep_alive``.
        """
        body = {"model": name, "messages": list(messages), "options": dict(options or {}), **more, "stream": True}
        message: Json = {"role": "assistant", "content": ""}
        for event in self._events("/api/chat", body, name=name):
            told = event.get("message")
            piece = told if isinstance(told, dict) else {}
            for key, kind in MESSAGE_FIELDS.items():
                if isinstance(piece.get(key), kind):
                    message[key] = message.get(key, kind()) + piece[key]
            on_text(str(piece.get("content") or ""))
            if event.get("done"):
                return event | {"message": message}
        raise self._cut_short(name)

    def generate(
        self,
        name: str,
        prompt: str,
        *,
        options: Mapping[str, Any] | None = None,
        on_text: Callable[[str], None] = lambda text: None,
        **more: Any,
    ) -> Json:
        """Complete a prompt. The last event, with the whole ``response`` in it; ``more`` as in ``chat``, or ``raw``."""
        body = {"model": name, "prompt": prompt, "options": dict(options or {}), **more, "stream": True}
        text = ""
        for event in self._events("/api/generate", body, name=name):
            piece = str(event.get("response", ""))
            on_text(piece)
            text += piece
            if event.get("done"):
                return event | {"response": text}
        raise self._cut_short(name)

    def render(self, name: str, messages: Sequence[Mapping[str, Any]], **more: Any) -> str:
        """The prompt that ``chat`` would send to the model, which is loaded for it."""
        body = {"model": name, "messages": list(messages), **more, "stream": False, "_debug_render_only": True}
        info = self._call("POST", "/api/chat", body, name=name).get("_debug_info")
        rendered = info.get("rendered_template") if isinstance(info, dict) else None
        if not isinstance(rendered, str):
            raise ServerError(
                f"{self.url} does not show the prompts it renders", next_step="run Ollama 0.30 or newer there"
            )
        return rendered

    def has_blob(self, digest: str) -> bool:
        """Whether the server has a blob already; ``digest`` is ``sha256:<hex>``."""
        with self._open("HEAD", f"/api/blobs/{digest}", allowed=404) as response:
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
                with self._open("POST", f"/api/blobs/{digest}", content=blocks(total), headers=headers):
                    return True
            except OSError as error:
                raise ModelRefused(f"cannot read {path}: {error.strerror}", next_step="publish again") from error
            except ServerGone as error:
                lost = error
        raise ServerGone(
            f"{self.url} was lost after {furthest / 1e6:.1f} of {total / 1e6:.1f} MB of {path.name}",
            next_step="see the server's log and the room on its disk, then publish again",
        ) from lost

    def _models(self, path: str, *fields: str) -> list[Json]:
        models = self._call("GET", path).get("models") or []
        if not isinstance(models, list) or not all(
            isinstance(model, dict) and model.keys() >= {*fields} for model in models
        ):
            raise self._not_ollama(f"{path} does not list models")
        return models

    def _call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        name: str | None = None,
        silence: httpx.Timeout | None = None,
    ) -> Json:
        """One request, one JSON object; an empty answer is an empty one."""
        with self._open(method, path, body=body, name=name, silence=silence) as response:
            data = _read(response, MAX_REPLY)
        if len(data) > MAX_REPLY:
            raise self._not_ollama(f"{path} answers with more than {MAX_REPLY >> 20} MiB")
        return self._object(data) if data.strip() else {}

    def _events(self, path: str, body: Json, *, name: str) -> Iterator[Json]:
        """The objects of an NDJSON stream. An ``error`` in it, which comes after a 200, is raised."""
        with self._open("POST", path, body=body, name=name) as response:
            for line in self._lines(response):
                event = self._object(line)
                if event.get("error"):
                    raise ServerError(
                        f"{self.url} refuses {name}: {_sentence(event)}", next_step="see the server's log"
                    )
                yield event

    def _lines(self, response: httpx.Response) -> Iterator[bytes]:
        """Lines that end with LF and nothing else: JSON texts may hold the others that ``iter_lines`` splits at."""
        rest = b""
        for chunk in response.iter_bytes():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from filter(bytes.strip, lines)
            if len(rest) > MAX_LINE:
                raise self._not_ollama(f"it sends a line of more than {MAX_LINE >> 20} MiB")
        if rest.strip():
            yield rest

    @contextlib.contextmanager
    def _open(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        name: str | None = None,
        content: Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        allowed: int = 200,
        silence: httpx.Timeout | None = None,
    ) -> Iterator[httpx.Response]:
        try:
            with self._http.stream(
                method, path, json=body, content=content, headers=headers, timeout=silence or self._silence
            ) as response:
                if not response.is_success and response.status_code != allowed:
                    raise self._refusal(response, name)
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ServerGone(
                f"no Ollama server answers at {self.url}", next_step="start one with `ollama serve`, or set OLLAMA_HOST"
            ) from error
        except httpx.HTTPError as error:
            why = "was silent for too long" if isinstance(error, httpx.TimeoutException) else "broke the connection"
            raise ServerGone(f"{self.url} {why} at {method} {path}", next_step="see the server's log") from error

    def _refusal(self, response: httpx.Response, name: str | None) -> ServerError:
        data = _read(response, MAX_LINE)
        answer = _parsed(data)
        sentence = _sentence(answer) or _printable(data) or response.reason_phrase
        status = response.status_code
        if status == 404 and name and answer:
            return ModelNotFound(f"{self.url} has no model {name}: {sentence}", next_step="see `ollama list`")
        if status == 401:
            return ServerError(f"{self.url} asks to sign in: {sentence}", next_step="run `ollama signin`")
        what = name or f"{response.request.method} {response.request.url.path}"
        return ServerError(f"{self.url} refuses {what} ({status}): {sentence}", next_step="see the server's log")

    def _object(self, data: bytes) -> Json:
        parsed = _parsed(data)
        if parsed is None:
            raise self._not_ollama(f"it says {_printable(data)!r}")
        return parsed

    def _not_ollama(self, why: str) -> ServerError:
        return ServerError(
            f"what answers at {self.url} does not speak Ollama's API: {why}", next_step="see that the address is right"
        )

    def _cut_short(self, name: str) -> ServerError:
        return ServerError(f"{self.url} stopped in the middle of an answer of {name}", next_step="see the server's log")


def _read(response: httpx.Response, limit: int) -> bytes:
    """The body, or a little more than ``limit`` bytes of it."""
    data = bytearray()
    for chunk in response.iter_bytes():
        data += chunk
        if len(data) > limit:
            break
    return bytes(data)


def _parsed(data: bytes) -> Json | None:
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _sentence(answer: Json | None) -> str:
    error = (answer or {}).get("error", "")
    return str(error.get("message", error) if isinstance(error, dict) else error).strip()


def _count(event: Json, key: str) -> int:
    value = event.get(key)
    return value if isinstance(value, int) else 0


def _printable(data: bytes) -> str:
    return " ".join(data[:200].decode(errors="replace").split())
