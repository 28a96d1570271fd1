"""Manifests in a registry: written last, read back, and only then believed."""

from __future__ import annotations

import hashlib

from ollamaq.errors import ServerError
from ollamaq.ollama.contents import MANIFEST, MAX_MANIFEST
from ollamaq.registry.session import Session

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ACCEPT = {"Accept": f"{MANIFEST}, {OCI_MANIFEST}"}


def digest_of_manifest(data: bytes) -> str:
    """``sha256:<hex>``, by which a registry knows a manifest, and which ``ollama list`` calls its ID."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def get_manifest(session: Session) -> bytes | None:
    """The manifest under the session's tag or digest; None where there is none.

    Raises:
        ServerError: the registry refuses, or sends another one than the digest that was asked for.
    """
    reference = session.reference
    url = f"{session.repository_url}/manifests/{reference.tag}"
    answer = session.call("GET", url, headers=ACCEPT, expected=(404,), doing=f"{reference}", limit=MAX_MANIFEST)
    if answer.status == 404:
        return None
    digest = digest_of_manifest(answer.data)
    wanted = reference.tag if ":" in reference.tag else answer.headers.get("Docker-Content-Digest", digest)
    if wanted != digest:
        raise ServerError(
            f"{reference.host} sends a manifest of {reference} with the digest {digest}, not {wanted}",
            next_step="ask its operator; use nothing of it",
        )
    return answer.data


def put_manifest(session: Session, data: bytes) -> str:
    """Give the tag to a model, all blobs of which are there, and read it back. The manifest's digest.

    Raises:
        ServerError: the registry refuses, or the tag has another manifest then: somebody else pushes to it.
    """
    reference, digest = session.reference, digest_of_manifest(data)
    url = f"{session.repository_url}/manifests/{reference.tag}"
    session.call("PUT", url, body=lambda: iter([data]), headers=_headers(data), doing=f"{reference}")
    seen = get_manifest(session)
    if seen != data:
        what = f"the manifest {digest_of_manifest(seen)}" if seen else "no manifest"
        raise ServerError(
            f"{reference} has {what} instead of {digest}, which was just pushed",
            next_step="see whether somebody else pushes to that tag, then push again",
        )
    return digest


def _headers(data: bytes) -> dict[str, str]:
    return {"Content-Type": MANIFEST, "Content-Length": str(len(data))}
