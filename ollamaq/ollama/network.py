"""What is common to lines to servers and registries: how long they may be silent, and why one is not trusted."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from typing import TypeVar

from ollamaq.errors import ServerError, UsageError

Kind = TypeVar("Kind", bound=BaseException)

SILENCE_SECONDS = 600.0
"""A server that loads a big model, or a registry that checks a digest, from a slow disk says nothing for minutes."""
OUT_OF_TIME = {9: "is not valid yet", 10: "has expired"}
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL's ``x509_vfy.h``."""


def silence() -> float:
    """Seconds that a server or a registry may be silent: OLLAMAQ_TIMEOUT, or ten minutes.

    Raises:
        UsageError: OLLAMAQ_TIMEOUT is not a number of seconds.
    """
    text = os.environ.get("OLLAMAQ_TIMEOUT", "")
    try:
        seconds = float(text or SILENCE_SECONDS)
        if 0 < seconds < float("inf"):
            return seconds
    except ValueError:
        pass
    raise UsageError(f"OLLAMAQ_TIMEOUT is {text!r}, which is not a number of seconds", next_step="set it to 600")


def cause(error: BaseException | None, kind: type[Kind]) -> Kind | None:
    """The error of that kind that led to another one."""
    while error:
        if isinstance(error, kind):
            return error
        error = error.__cause__ or error.__context__
    return None


def distrusted(url: str, error: ssl.SSLError, next_step: str) -> ServerError:
    """Why TLS is not spoken with ``url``; ``next_step`` is for all reasons but a certificate that is out of its time.

    That may be this machine's clock's fault, whose time is told therefore.
    """
    why = OUT_OF_TIME.get(getattr(error, "verify_code", 0))
    if why is None:
        return ServerError(f"{url} cannot be trusted: {error}", next_step=next_step)
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return ServerError(
        f"{url} cannot be trusted: its certificate {why} by this machine's clock ({now})",
        next_step="set this machine's clock if it is wrong; if it is right, the server needs a new certificate",
    )
