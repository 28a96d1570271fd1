"""What a server behind a proxy asks for, from the environment: a bearer token and headers.

``OLLAMAQ_TOKEN`` and ``OLLAMAQ_HEADERS`` (lines ``Name: value``) are for every server that is named to ollamaq;
``OLLAMAQ_TOKEN_<HOST>`` and ``OLLAMAQ_HEADERS_<HOST>`` for one, its dots and dashes as underscores.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from ollamaq.errors import UsageError

TOKEN, HEADERS = "OLLAMAQ_TOKEN", "OLLAMAQ_HEADERS"
HIDDEN = "***"
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t]*)")


def headers_for(url: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The headers that the environment has for a server.

    Raises:
        UsageError: a variable cannot be sent; its value is not told.
    """
    found: dict[str, str] = {}
    variable, text = _chosen(HEADERS, url, environment)
    for number, line in enumerate(filter(str.strip, text.splitlines()), 1):
        match = _HEADER.fullmatch(line.strip())
        if match is None:
            raise UsageError(
                f"line {number} of {variable} is not a header", next_step="write `Name: value`, one on each line"
            )
        found[match[1]] = match[2]
    variable, token = _chosen(TOKEN, url, environment)
    if token := token.strip():
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise UsageError(f"{variable} holds what no token has", next_step="set it to the token alone")
        found["Authorization"] = f"Bearer {token}"
    return found


def hide(text: str, headers: Mapping[str, str]) -> str:
    """The text without what is secret in the headers, should a server repeat it."""
    for secret in sorted((value.removeprefix("Bearer ") for value in headers.values()), key=len, reverse=True):
        text = text.replace(secret, HIDDEN) if len(secret) > len(HIDDEN) else text
    return text


def _chosen(variable: str, url: str, environment: Mapping[str, str]) -> tuple[str, str]:
    host = re.sub(r"[^A-Za-z0-9]", "_", urlsplit(url).hostname or "")
    own = next((name for name in environment if name.upper() == f"{variable}_{host}".upper()), variable)
    return own, environment.get(own, "")
