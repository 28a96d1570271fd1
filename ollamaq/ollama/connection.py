"""HTTP to one server: bounded, with deadlines, repeated where that is safe. httpx stays behind this module.

What comes back is JSON or lines of it, or an error in the server's own words. Redirects are not followed, so that
what the environment has for one host reaches no other; TLS trusts what ``SSL_CERT_FILE`` names, else certifi's list.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from ollamaq.errors import ServerError, ServerGone, UsageError
from ollamaq.ollama import network
from ollamaq.ollama.access import headers_for, hide
from ollamaq.ollama.host import UNIX, UNPROXIED

Json = dict[str, Any]

CONNECT_SECONDS = 5.0
GREETING_SECONDS = 10.0
"""For a server to tell its version, which it does at once; and for one that was silent for too long before."""
LONGEST_SECONDS = 6 * 3600.0
"""For one request but an upload, however much is told meanwhile."""
MAX_LINE = 8 << 20
"""Ollama's own client takes no longer lines either."""
MAX_REPLY = 64 << 20
MAX_STREAM = 1 << 30
"""Of progress, which is told for hours where a model is big."""
PAUSES = (0.5, 1.0, 2.0)
"""Seconds before a request that was not begun to be answered is made again."""
MAX_PAUSE = 30.0


class ServerSilent(ServerGone):
    """The connection stands, and nothing comes."""


class ModelNotFound(ServerError):
    """The server has no model of that name."""


class Connection:
    """A pool of connections to ``url``: ``http://…``, ``https://…``, or ``unix:///path/of/a/socket``.

    Raises:
        UsageError: ``url`` is not a URL, or the environment's settings for it cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        silence: float | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._seconds = network.silence() if silence is None else silence
        base = self.url
        if self.url.startswith(UNIX):
            base, transport = "http://localhost", transport or httpx.HTTPTransport(uds=self.url.removeprefix(UNIX))
        try:
            self.headers = dict(headers_for(self.url) if headers is None else headers)
            self._http = httpx.Client(base_url=base, headers=self.headers, transport=transport, mounts=UNPROXIED)
        except (httpx.InvalidURL, ValueError) as error:
            raise UsageError(f"{url!r} is not a server's address: {error}", next_step="write host:port") from error
        except OSError as error:  # the file of SSL_CERT_FILE
            raise UsageError(
                f"the certificates of {os.environ.get('SSL_CERT_FILE')!r} cannot be read: {error}",
                next_step="set SSL_CERT_FILE to a file in PEM",
            ) from error

    def close(self) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        name: str | None = None,
        repeatable: bool = False,
        greeting: bool = False,
    ) -> Json:
        """One request, one JSON object; an empty answer is an empty one.

        ``name`` is the model in question; ``repeatable`` allows a second try where the first may have been heard.
        ``greeting`` waits for seconds only, and tries once.
        """
        with self.open(method, path, body=body, name=name, repeatable=repeatable, greeting=greeting) as response:
            data = b"".join(self._chunks(response, MAX_REPLY))
        return self._object(data) if data.strip() else {}

    def events(self, path: str, body: Json, *, name: str, limit: int = MAX_STREAM) -> Iterator[Json]:
        """The objects of an NDJSON stream, of at most ``limit`` bytes. An ``error`` in it, after a 200, is raised."""
        with self.open("POST", path, body=body, name=name) as response:
            for line in self._lines(response, limit):
                event = self._object(line)
                if event.get("error"):
                    raise ServerError(
                        f"{self.url} refuses {name}: {self._told(_sentence(event))}", next_step="see the server's log"
                    )
                yield event

    @contextlib.contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        name: str | None = None,
        content: Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        allowed: int = 200,
        repeatable: bool = False,
        greeting: bool = False,
    ) -> Iterator[httpx.Response]:
        """A response whose status is good, or ``allowed``; its body is still to be read.

        A refused connection and a 503 (the queue is full) have changed nothing: the request is made again after a
        pause, but for an upload and a greeting. A connection that breaks before the answer is repeated if told to.
        """
        seconds = min(self._seconds, GREETING_SECONDS) if greeting else self._seconds
        timeout = httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))
        with self._explained(method, path):
            for pause in (*(() if content or greeting else PAUSES), None):
                request = self._http.build_request(
                    method, path, json=body, content=content, headers=headers, timeout=timeout
                )
                try:
                    response = self._http.send(request, stream=True)
                except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError) as error:
                    if pause is None or not (repeatable or _was_refused(error)):
                        raise
                else:
                    if pause is None or response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                        break
                    pause = _retry_after(response, pause)
                    response.close()
                time.sleep(pause)
            with contextlib.closing(response):
                if not response.is_success and response.status_code != allowed:
                    raise self._refusal(response, name)
                yield response

    @contextlib.contextmanager
    def _explained(self, method: str, path: str) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if untrusted := network.cause(error, ssl.SSLError):
                step = "set SSL_CERT_FILE to the certificate of the authority that signed it"
                raise network.distrusted(self.url, untrusted, step) from error
            raise ServerGone(
                f"no Ollama server answers at {self.url}", next_step="start one with `ollama serve`, or set OLLAMA_HOST"
            ) from error
        except httpx.TimeoutException as error:
            raise self._silent(f"{method} {path}") from error
        except httpx.HTTPError as error:
            raise ServerGone(
                f"{self.url} broke the connection at {method} {path}", next_step="see the server's log"
            ) from error

    def _silent(self, where: str) -> ServerSilent:
        self._seconds = min(self._seconds, GREETING_SECONDS)  # whoever cleans up shall not wait as long again
        return ServerSilent(
            f"{self.url} was silent for too long at {where}",
            next_step="see the server's log; OLLAMAQ_TIMEOUT sets the seconds to wait",
        )

    def _chunks(self, response: httpx.Response, limit: int) -> Iterator[bytes]:
        """A body of at most ``limit`` bytes, told without a pause longer than the silence allowed."""
        path, size, deadline = response.request.url.path, 0, time.monotonic() + self._seconds
        for chunk in response.iter_bytes():
            size += len(chunk)
            if size > limit:
                raise self.not_ollama(f"{path} answers with more than {limit >> 20} MiB")
            if time.monotonic() > deadline:
                raise self._silent(path)
            yield chunk

    def _lines(self, response: httpx.Response, limit: int) -> Iterator[bytes]:
        """Lines that end with LF and nothing else: JSON texts may hold the others that ``iter_lines`` splits at."""
        path, size, rest = response.request.url.path, 0, b""
        told = started = time.monotonic()
        for chunk in response.iter_bytes():
            size += len(chunk)
            if size > limit:
                raise self.not_ollama(f"{path} answers with more than {limit >> 20} MiB")
            *lines, rest = (rest + chunk).split(b"\n")
            yield from filter(bytes.strip, lines)
            if len(rest) > MAX_LINE:
                raise self.not_ollama(f"it sends a line of more than {MAX_LINE >> 20} MiB")
            now = time.monotonic()
            told = now if lines else told
            if now - told > self._seconds or now - started > LONGEST_SECONDS:
                raise self._silent(path)
        if rest.strip():
            yield rest

    def _refusal(self, response: httpx.Response, name: str | None) -> ServerError:
        data = _start(response)
        answer = _parsed(data)
        sentence = self._told(_sentence(answer) or _printable(data) or response.reason_phrase)
        status = response.status_code
        if status == 404 and name and answer:
            return ModelNotFound(f"{self.url} has no model {name}: {sentence}", next_step="see `ollama list`")
        if status == 401:
            return ServerError(
                f"{self.url} asks to sign in: {sentence}",
                next_step="run `ollama signin`; for a proxy in front of it, set OLLAMAQ_TOKEN",
            )
        if response.has_redirect_location:
            return ServerError(
                f"{self.url} sends away to {self._told(_printable(response.headers['location'].encode()))} ({status})",
                next_step="give the address of the server itself: redirects are not followed",
            )
        what = name or f"{response.request.method} {response.request.url.path}"
        return ServerError(f"{self.url} refuses {what} ({status}): {sentence}", next_step="see the server's log")

    def _object(self, data: bytes) -> Json:
        parsed = _parsed(data)
        if parsed is None:
            raise self.not_ollama(f"it says {self._told(_printable(data))!r}")
        return parsed

    def not_ollama(self, why: str) -> ServerError:
        """The error where what answers is something else."""
        return ServerError(
            f"what answers at {self.url} does not speak Ollama's API: {why}", next_step="see that the address is right"
        )

    def _told(self, text: str) -> str:
        return hide(text, self.headers)


def _retry_after(response: httpx.Response, pause: float) -> float:
    asked = response.headers.get("retry-after", "")
    return min(float(asked), MAX_PAUSE) if asked.isascii() and asked.isdigit() else pause


def _was_refused(error: Exception) -> bool:
    return isinstance(error, httpx.ConnectError) and bool(network.cause(error, ConnectionRefusedError))


def _start(response: httpx.Response) -> bytes:
    """The body, or a little more than a line's limit of it."""
    data = bytearray()
    with contextlib.suppress(httpx.HTTPError):
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > MAX_LINE:
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


def _printable(data: bytes) -> str:
    return " ".join(data[:200].decode(errors="replace").split())
