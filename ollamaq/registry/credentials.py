"""Who we are to a registry: what ``docker login`` left, in docker's ``config.json`` or in a credential helper.

The file's format is docker's (``auths``, ``credHelpers``, ``credsStore``), the helpers' protocol that of
docker-credential-helpers: the host on stdin of ``docker-credential-NAME get``, JSON on its stdout.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollamaq.errors import ToolchainError

MAX_CONFIG = 4 << 20
HELPER_SECONDS = 60
TOKEN_USER = "<token>"
"""The user name by which a helper says that its secret is an identity token (OAuth2), not a password."""


@dataclass(frozen=True)
class Credentials:
    """A user with a password, or an identity token; neither is shown by ``repr``."""

    user: str
    password: str = field(repr=False, default="")
    identity_token: str = field(repr=False, default="")

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find_credentials(host: str) -> Credentials | None:
    """What docker knows for a host; None where nobody has logged in.

    Raises:
        ToolchainError: docker's configuration cannot be read, or a credential helper fails.
    """
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    config = _config(path)
    helpers = config.get("credHelpers")
    helper = (helpers.get(host) if isinstance(helpers, dict) else None) or config.get("credsStore")
    if helper:
        found = _from_helper(str(helper), host)
        if found:
            return found
    auths = config.get("auths")
    for key, entry in auths.items() if isinstance(auths, dict) else ():
        if _host_of(key) == host and isinstance(entry, dict) and (found := _from_entry(entry, path, host)):
            return found
    return None


def _config(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            config = json.loads(file.read(MAX_CONFIG))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise ToolchainError(f"cannot read {path}: {why}", next_step="mend it, or set DOCKER_CONFIG") from error
    return config if isinstance(config, dict) else {}


def _host_of(key: str) -> str:
    """``auths`` are called by host, or by a URL of which only the host counts."""
    return re.sub("^https?://", "", key).partition("/")[0]


def _from_entry(entry: dict[str, Any], path: Path, host: str) -> Credentials | None:
    token, encoded = entry.get("identitytoken"), entry.get("auth")
    if isinstance(token, str) and token:
        return Credentials(TOKEN_USER, identity_token=token)
    if not isinstance(encoded, str) or not encoded:
        return None  # it is in the helper
    try:
        user, separator, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        separator = ""
    if not separator:
        raise ToolchainError(f"{path} has a damaged entry for {host}", next_step=f"run `docker login {host}`")
    return Credentials(user, password.rstrip("\0"))


def _from_helper(helper: str, host: str) -> Credentials | None:
    program = f"docker-credential-{helper}"
    step = f"run `echo {host} | {program} get`, or take it out of docker's config.json"
    if not re.fullmatch("[A-Za-z0-9._-]+", helper):
        raise ToolchainError(f"docker's config.json names a credential helper {helper!r}", next_step="mend it")
    try:
        asked = subprocess.run((program, "get"), input=host.encode(), capture_output=True, timeout=HELPER_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError(f"the credential helper {program} does not run", next_step=step) from error
    if asked.returncode:  # it says "credentials not found" on stdout, in words that differ
        return None
    try:
        told = json.loads(asked.stdout)
        user, secret = str(told["Username"]), str(told["Secret"])
    except (ValueError, LookupError, TypeError) as error:
        raise ToolchainError(f"the credential helper {program} does not answer in JSON", next_step=step) from error
    if user == TOKEN_USER:
        return Credentials(user, identity_token=secret)
    return Credentials(user, secret)
