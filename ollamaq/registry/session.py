"""HTTP with one registry: authority, redirects, retries, bounds. httpx stays behind this module.

Credentials go to the registry's own address and to no other, wherever it redirects; nothing that is sent is told in an
error but a URL's host and path.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urljoin, urlsplit

import httpx

from ollamaq.errors import ServerError, UsageError
from ollamaq.ollama import network
from ollamaq.ollama.host import UNPROXIED
from ollamaq.registry.auth import Authority
from ollamaq.registry.reference import Reference

CONNECT_SECONDS = 10.0
RETRY_SECONDS = (1.0, 3.0, 9.0)
MAX_WAIT = 60.0
"""The longest ``Retry-After`` that is waited for."""
BUSY = {429, 502, 503, 504}
REDIRECTS = {301, 302, 303, 307, 308}
MAX_REDIRECTS = 5
MAX_REPLY = 8 << 20
PUSH, PULL = "pull,push", "pull"

Body = Callable[[], Iterator[bytes]]


class Stopped(Exception):
    """A transfer was told to stop: another one failed, or somebody pressed Ctrl-C."""


class RegistryGone(ServerError):
    """Nobody answers, or the connection broke: to be tried again."""


@dataclass(frozen=True)
class Answer:
    """What a registry said; ``url`` is where a relative Location starts from."""

    status: int
    headers: httpx.Headers
    data: bytes
    url: str

    def location(self) -> str | None:
        """Where it sends us to, as a whole URL."""
        place = self.headers.get("Location")
        return urljoin(self.url, place) if place else None

    def says(self) -> str:
        """The registry's own sentence (``{"errors": [{"code", "message"}]}``)."""
        try:
            errors = json.loads(self.data)["errors"]
            texts = [str(error.get("message") or error.get("code")) for error in errors if isinstance(error, dict)]
        except (ValueError, RecursionError, LookupError, TypeError):
            texts = [self.data[:200].decode(errors="replace")]
        text = " ".join("; ".join(texts).split())[:300]
        return text or f"HTTP {self.status}"


class Session:
    """One registry, as seen from one repository of it; used by many threads at once.

    Raises:
        UsageError: the CA file or OLLAMAQ_TIMEOUT cannot be used.
    """

    def __init__(
        self,
        reference: Reference,
        access: str,
        *,
        others: tuple[str, ...] = (),
        insecure: bool = False,
        ca_file: Path | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.reference = reference
        self.base = f"{'http' if insecure else 'https'}://{reference.host}"
        self.repository_url = f"{self.base}/v2/{reference.repository}"
        self.stop = threading.Event()
        scopes = [f"repository:{reference.repository}:{access}", *(f"repository:{name}:pull" for name in others)]
        self._authority = Authority(reference.host, scopes, self._fetch)
        seconds = network.silence()
        self._http = httpx.Client(
            verify=_trust(ca_file),
            timeout=httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
            transport=transport,
            mounts=UNPROXIED if transport is None else None,
            headers={"User-Agent": "ollamaq", "Accept-Encoding": "identity"},
            limits=httpx.Limits(max_connections=None),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        url: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        expected: tuple[int, ...] = (),
        doing: str,
        retry: bool = True,
        limit: int = MAX_REPLY,
    ) -> Answer:
        """One request, and the whole of a small answer, which is a success or one of the ``expected`` statuses.

        ``retry`` is for requests that may be made twice: a broken connection or a busy registry is waited for.

        Raises:
            RegistryGone: the connection broke (each time).
            ServerError: the registry refuses, or answers without end.
        """
        pauses = iter(RETRY_SECONDS if retry else ())
        while True:
            try:
                with self.open(method, url, body=body, headers=headers) as response:
                    answer = Answer(response.status_code, response.headers, self._read(response, limit), url)
            except RegistryGone:
                if (pause := next(pauses, None)) is None:
                    raise
            else:
                if answer.status in expected or 200 <= answer.status < 300:
                    return answer
                pause = next(pauses, None) if answer.status in BUSY else None
                if pause is None:
                    raise self.refusal(answer, doing)
                pause = max(pause, _seconds(answer.headers.get("Retry-After")))
            self.wait(pause)

    @contextlib.contextmanager
    def open(
        self, method: str, url: str, *, body: Body | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """One request with our authority, redirects followed; the answer is read by the caller.

        Raises:
            RegistryGone: the connection broke.
            ServerError: it redirects in circles or to an open line, or its challenge cannot be answered.
        """
        challenged = 0
        for _ in range(2 * MAX_REDIRECTS):
            ours = self._is_ours(url)
            authorization = self._authority.header() if ours else None
            sent = dict(headers or {}) | ({"Authorization": authorization} if authorization else {})
            with self._exchange(method, url, body, sent) as response:
                status, place = response.status_code, response.headers.get("Location")
                if status == 401 and ours and challenged < 2:
                    challenged += 1
                    challenges = ", ".join(response.headers.get_list("WWW-Authenticate"))
                    if self._authority.challenged(challenges, authorization, url):
                        continue
                elif status in REDIRECTS and place:
                    url = self._redirected(url, place)
                    continue
                yield response
                return
        raise ServerError(f"{self.reference.host} redirects without end", next_step="ask its operator")

    def wait(self, seconds: float) -> None:
        """Sleep, unless this transfer is told to stop."""
        if self.stop.wait(seconds):
            raise Stopped

    def refusal(self, answer: Answer, doing: str) -> ServerError:
        """A refusal as our error."""
        host = self.reference.host
        step = "see the registry's log"
        if answer.status == 401:
            step = f"run `docker login {host}`, whose credentials are used here"
        elif answer.status == 403:
            step = f"use an account that may do so: `docker login {host}`"
        elif answer.status == 413:
            step = "give a smaller --chunk-size: something in front of the registry limits it"
        return ServerError(f"{host} refuses {doing} ({answer.status}): {answer.says()}", next_step=step)

    def _is_ours(self, url: str) -> bool:
        return _origin(url) == _origin(self.base)

    def _redirected(self, url: str, place: str) -> str:
        target = urljoin(url, place)
        scheme = urlsplit(target).scheme
        if scheme not in ("http", "https") or (scheme == "http" and urlsplit(url).scheme == "https"):
            raise ServerError(
                f"{self.reference.host} redirects to an open line ({_shown(target)})", next_step="ask its operator"
            )
        return target

    @contextlib.contextmanager
    def _exchange(
        self, method: str, url: str, body: Body | None, headers: Mapping[str, str]
    ) -> Iterator[httpx.Response]:
        if self.stop.is_set():
            raise Stopped
        try:
            with self._http.stream(method, url, content=body() if body else None, headers=headers) as response:
                yield response
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise ServerError(f"{self.reference.host} leads to a damaged URL", next_step="ask its operator") from error
        except httpx.ConnectError as error:
            if untrusted := network.cause(error, ssl.SSLError):
                step = "give its CA with --ca-file or SSL_CERT_FILE; --insecure means http"
                raise network.distrusted(_shown(url), untrusted, step) from error
            raise RegistryGone(f"no registry answers at {_shown(url)}", next_step="check host and port") from error
        except httpx.HTTPError as error:
            why = "was silent for too long" if isinstance(error, httpx.TimeoutException) else "broke the connection"
            raise RegistryGone(
                f"{urlsplit(url).netloc} {why} at {method} {urlsplit(url).path}", next_step="run it again: it goes on"
            ) from error

    def _read(self, response: httpx.Response, limit: int) -> bytes:
        data = bytearray()
        for chunk in response.iter_raw():  # not decompressed: nothing small becomes big here
            data += chunk
            if len(data) > limit:
                raise ServerError(
                    f"{self.reference.host} answers with more than {limit >> 10} KiB", next_step="ask its operator"
                )
        return bytes(data)

    def _fetch(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        """For the authority: a request to a token server, which follows no redirects."""
        with self._exchange(method, url, (lambda: iter([body])) if body is not None else None, headers) as response:
            answer = Answer(response.status_code, response.headers, self._read(response, MAX_REPLY), url)
        if answer.status != 200:
            raise ServerError(
                f"{urlsplit(url).netloc} gives no token for {self.reference} ({answer.status}): {answer.says()}",
                next_step=f"run `docker login {self.reference.host}`",
            )
        return answer.data


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = httpx.create_ssl_context()
        if ca_file:
            context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        where = ca_file or "SSL_CERT_FILE"
        raise UsageError(f"cannot use the certificates of {where}: {error}", next_step="give a PEM file") from error
    return context


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    with contextlib.suppress(ValueError):
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return "", None, None


def _shown(url: str) -> str:
    """Without a query or a user in it, which may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _seconds(text: str | None) -> float:
    return min(float(text), MAX_WAIT) if text and text.isdigit() else 0.0
