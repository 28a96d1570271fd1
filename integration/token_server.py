"""A token server as docker-registry wants one (distribution's token specification): JWTs signed with its own key.

Written for the tests: those that there are need more to be set up than these lines. ``good_for`` are the seconds for
which a token is accepted, whatever the client is told; docker-registry's 60 s of leeway are taken off here.
"""

from __future__ import annotations

import base64
import datetime
import json
import secrets
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

ISSUER, SERVICE = "tests", "registry"
LEEWAY = 60


class Tokens:
    """The server's key, and what it was asked; ``handler`` is for an ``http.server``."""

    def __init__(self, certificate: Path, user: str, password: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ISSUER)])
        now = datetime.datetime.now(datetime.UTC)
        built = (
            x509.CertificateBuilder(name, name, self.key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        self.certificate = built.sign(self.key, SHA256())
        certificate.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        self.expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.good_for, self.given, self.refused = 300.0, 0, 0

    def token(self, scopes: list[str], may_push: bool) -> str:
        """A JWT for these scopes; who has not logged in may only pull."""
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            wanted = [action for action in actions.split(",") if may_push or action == "pull"]
            access.append({"type": kind, "name": name, "actions": wanted})
        der = self.certificate.public_bytes(Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        now = time.time()
        claims = {
            "iss": ISSUER,
            "aud": SERVICE,
            "sub": "",
            "nbf": int(now) - 600,
            "iat": int(now) - 600,
            "exp": int(now + self.good_for) - LEEWAY,
            "jti": secrets.token_hex(8),
            "access": access,
        }
        signed = f"{_encoded(json.dumps(header).encode())}.{_encoded(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(SHA256())))
        return f"{signed}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    @property
    def handler(self) -> type[BaseHTTPRequestHandler]:
        tokens = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = self.headers.get("Authorization")
                if given not in (None, tokens.expected):
                    tokens.refused += 1
                    self.send_response(401)
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                tokens.given += 1
                scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
                now = datetime.datetime.now(datetime.UTC)
                told = {"expires_in": 300, "issued_at": now.isoformat(timespec="seconds")}
                body = json.dumps({"token": tokens.token(scopes, given is not None), **told}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return None

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
