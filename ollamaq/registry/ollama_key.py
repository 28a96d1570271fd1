"""The ed25519 key by which Ollama's own registry knows a user (Ollama's ``auth`` and ``server/auth.go``)."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from pathlib import Path
from urllib.parse import urlencode

from ollamaq.errors import ToolchainError

HOSTS = {"registry.ollama.ai", "ollama.com"}
MAX_KEY = 1 << 16
_EMPTY = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()


def key_path() -> Path:
    """Where ``ollama serve`` puts its user's key."""
    return Path.home() / ".ollama" / "id_ed25519"


def signed_request(realm: str, service: str, scopes: list[str]) -> tuple[str, str]:
    """The URL at which to ask for a token, and the Authorization header that signs just that.

    Raises:
        ToolchainError: there is no key, or nothing to sign with.
    """
    query = [("nonce", secrets.token_urlsafe(16)), *(("scope", scope) for scope in sorted(scopes))]
    query += [("service", service), ("ts", str(int(time.time())))]
    url = f"{realm}?{urlencode(query)}"
    public, signature = _sign(f"GET,{url},{_EMPTY}".encode())
    return url, f"{public}:{signature}"


def _sign(message: bytes) -> tuple[str, str]:
    path = key_path()
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key
    except ImportError as error:
        raise ToolchainError(
            "Ollama's registry wants a signature, and there is nothing here to make one with",
            next_step="pip install 'ollamaq[sign]'",
        ) from error
    try:
        with path.open("rb") as file:
            key = load_ssh_private_key(file.read(MAX_KEY), password=None)
    except OSError as error:
        raise ToolchainError(
            f"cannot read Ollama's key {path}: {error.strerror}", next_step="run `ollama serve` once, which makes one"
        ) from error
    except (ValueError, TypeError) as error:
        raise ToolchainError(f"{path} is not a key without passphrase", next_step="mend it") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ToolchainError(f"{path} is not an ed25519 key", next_step="let `ollama serve` make one")
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1].decode()
    return public, base64.b64encode(key.sign(message)).decode()
