"""Signatures of provenance: ed25519 in a DSSE envelope (https://github.com/secure-systems-lab/dsse), extra ``sign``."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from pathlib import Path
from typing import Any

from ollamaq.errors import GateFailed, ToolchainError, UsageError

ENVELOPE = "provenance.dsse.json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_KEY = 1 << 16
MAX_ENVELOPE = 16 << 20


def pae(payload_type: str, payload: bytes) -> bytes:
    """What is signed: type and content with their lengths (DSSE's pre-authentication encoding)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, key: Path) -> str:
    """An envelope with a signature by an ed25519 key of ``ssh-keygen`` or ``openssl``, without passphrase.

    Raises:
        UsageError: it is no such key.
        ToolchainError: the extra is missing.
    """
    private = _key(key, private=True)
    identity = _identity(private.public_key())
    signature = private.sign(pae(PAYLOAD_TYPE, payload))
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": identity, "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(envelope, indent=2) + "\n"


def signed_payload(envelope: Path, key: Path) -> bytes:
    """What an envelope holds, if the key has signed it.

    Raises:
        GateFailed: it has not.
        UsageError: the key is no public ed25519 key.
        ToolchainError: the extra is missing.
    """
    public = _key(key, private=False)
    from cryptography.exceptions import InvalidSignature

    broken = GateFailed(f"{envelope} is no signed envelope", next_step="sign the package again")
    try:
        with envelope.open("rb") as file:
            data = json.loads(file.read(MAX_ENVELOPE))
        payload = base64.b64decode(data["payload"], validate=True)
        kind, signatures = str(data["payloadType"]), list(data["signatures"])
        found = [base64.b64decode(entry["sig"], validate=True) for entry in signatures]
    except (OSError, ValueError, LookupError, TypeError, RecursionError, binascii.Error) as error:
        raise broken from error
    for signature in found if kind == PAYLOAD_TYPE else []:
        try:
            public.verify(signature, pae(kind, payload))
        except InvalidSignature:
            continue
        return payload
    raise GateFailed(f"{envelope} is not signed by {key}", next_step="ask for the key of whoever published it")


def _key(path: Path, *, private: bool) -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise ToolchainError("signatures need cryptography", next_step="pip install 'ollamaq[sign]'") from None
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", next_step="give the path of a key") from error
    loaders: tuple[Any, ...] = (serialization.load_ssh_public_key, serialization.load_pem_public_key)
    if private:
        loaders = (
            lambda data: serialization.load_ssh_private_key(data, None),
            lambda data: serialization.load_pem_private_key(data, None),
        )
    kind = ed25519.Ed25519PrivateKey if private else ed25519.Ed25519PublicKey
    for load in loaders:
        try:
            key = load(data)
        except Exception:  # each loader has errors of its own for what another one reads
            continue
        if isinstance(key, kind):
            return key
    wanted = "private ed25519 key without passphrase" if private else "public ed25519 key"
    raise UsageError(f"{path} is no {wanted}", next_step="make one with: ssh-keygen -t ed25519 -N '' -f KEY")


def _identity(public: Any) -> str:
    """``SHA256:…``, as ``ssh-keygen -l`` prints it."""
    from cryptography.hazmat.primitives import serialization

    text = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    digest = hashlib.sha256(base64.b64decode(text.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
