"""How a registry is told who asks: its challenge answered with a password, or with a token that is fetched for it.

Formats: RFC 7235 (challenges), distribution's token and OAuth2 specifications, and Ollama's signed requests.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from ollamaq.errors import ServerError
from ollamaq.registry import ollama_key
from ollamaq.registry.credentials import Credentials, find_credentials

MARGIN_SECONDS = 10.0
"""A token that ends sooner is not used any more."""
DEFAULT_SECONDS = 60.0
"""What a token that does not tell its end is good for."""
CLIENT = "ollamaq"

_CHALLENGE = re.compile(r'([A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))|([A-Za-z]+)(?=\s|$)')

Fetch = Callable[[str, str, Mapping[str, str], bytes | None], bytes]
"""``fetch(method, url, headers, body)`` gives the body of a successful answer."""


class Authority:
    """The Authorization header for one registry, renewed when it is refused or about to end. Used by many threads."""

    def __init__(self, host: str, scopes: list[str], fetch: Fetch) -> None:
        self.host, self._scopes, self._fetch = host, scopes, fetch
        self._lock = threading.Lock()
        self._header: str | None = None
        self._ends = float("inf")
        self._challenge: tuple[str, dict[str, str]] | None = None

    def header(self) -> str | None:
        """What to send; None while nobody has asked for it."""
        with self._lock:
            if self._challenge and time.monotonic() > self._ends - MARGIN_SECONDS:
                self._answer(*self._challenge)
            return self._header

    def challenged(self, challenges: str, used: str | None, origin: str) -> bool:
        """A registry at the URL ``origin`` refused ``used``. True where there is something else to send now.

        Raises:
            ServerError: the challenge cannot be answered.
        """
        with self._lock:
            if self._header != used:  # another thread was faster
                return True
            parsed = _parse(challenges)
            for scheme in ("bearer", "basic"):
                if scheme in parsed:
                    self._challenge = (origin, parsed[scheme]) if scheme == "bearer" else None
                    self._header = None
                    if scheme == "bearer":
                        self._answer(origin, parsed[scheme])
                    elif (found := find_credentials(self.host)) and found.basic != used:
                        self._header = found.basic
                    return self._header is not None and self._header != used
            return False

    def _answer(self, origin: str, parameters: dict[str, str]) -> None:
        realm = urlsplit(parameters.get("realm", ""))
        if realm.scheme not in ("http", "https") or not realm.hostname:
            raise ServerError(f"{self.host} asks for a token, and does not say where", next_step="ask its operator")
        if realm.scheme == "http" and urlsplit(origin).scheme == "https":
            raise ServerError(
                f"{self.host} asks for a token over an open line, from {realm.netloc}", next_step="ask its operator"
            )
        scopes = list(dict.fromkeys([*self._scopes, *parameters.get("scope", "").split()]))
        told = self._token(realm.geturl(), parameters.get("service", ""), scopes)
        token = told.get("token") or told.get("access_token")
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise ServerError(f"{realm.netloc} gives no token for {self.host}", next_step="ask its operator")
        seconds = told.get("expires_in")
        lifetime = float(seconds) if isinstance(seconds, int | float) and seconds > 0 else DEFAULT_SECONDS
        self._ends = time.monotonic() + max(lifetime, MARGIN_SECONDS + 1)  # a shorter one would be renewed for ever
        self._header = f"Bearer {token}"

    def _token(self, realm: str, service: str, scopes: list[str]) -> dict[str, Any]:
        found = find_credentials(self.host)
        if found and found.identity_token:
            form = {"grant_type": "refresh_token", "service": service, "client_id": CLIENT, "scope": " ".join(scopes)}
            body = urlencode(form | {"refresh_token": found.identity_token}).encode()
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            return _object(self._fetch("POST", realm, kind, body))
        if not found and self.host in ollama_key.HOSTS and urlsplit(realm).hostname in ollama_key.HOSTS:
            url, signature = ollama_key.signed_request(realm, service, scopes)
            return _object(self._fetch("GET", url, {"Authorization": signature}, None))
        return _object(self._fetch("GET", _with_query(realm, service, scopes, found), _basic(found), None))


def _with_query(realm: str, service: str, scopes: list[str], found: Credentials | None) -> str:
    query = [("service", service), *(("scope", scope) for scope in scopes)]
    if found:
        query += [("account", found.user), ("client_id", CLIENT)]
    return f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"


def _basic(found: Credentials | None) -> dict[str, str]:
    return {"Authorization": found.basic} if found else {}


def _object(data: bytes) -> dict[str, Any]:
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        told = None
    return told if isinstance(told, dict) else {}


def _parse(challenges: str) -> dict[str, dict[str, str]]:
    """``Bearer realm="…",service="…"`` by its scheme, in lower case; several may be in one header."""
    parsed: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for match in _CHALLENGE.finditer(challenges):
        key, text, bare, scheme = match.groups()
        if scheme:
            current = parsed.setdefault(scheme.lower(), {})
        else:
            current[key.lower()] = re.sub(r"\\(.)", r"\1", text) if text is not None else bare
    return parsed
