"""A model sent to a registry: authority first, then what is missing, the manifest last, and read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from ollamaq.errors import UsageError
from ollamaq.ollama import Progress, silent
from ollamaq.ollama.contents import Part
from ollamaq.ollama.names import parse_name
from ollamaq.registry.manifests import put_manifest
from ollamaq.registry.parallel import in_parallel
from ollamaq.registry.reference import Reference, parse_reference
from ollamaq.registry.session import PUSH, Session
from ollamaq.registry.sources import open_contents
from ollamaq.registry.state import origins
from ollamaq.registry.uploads import CHUNK, SentBlob, check_authority, has_blob, send_blob

PARALLEL = 4


@dataclass(frozen=True)
class Pushed:
    """A model in a registry: ``digest`` is that of its manifest, which ``ollama list`` shows as its ID."""

    reference: str
    digest: str
    size: int
    blobs: tuple[SentBlob, ...]

    @property
    def sent(self) -> int:
        """Bytes that were sent."""
        return sum(blob.sent for blob in self.blobs)


def push(
    source: str,
    reference: str | Reference,
    *,
    insecure: bool = False,
    ca_file: Path | None = None,
    parallel: int = PARALLEL,
    chunk: int = CHUNK,
    dry_run: bool = False,
    progress: Progress = silent,
    transport: httpx.BaseTransport | None = None,
) -> Pushed:
    """Push a model to a registry. A push that was interrupted goes on where the registry says it was.

    Args:
        source: a package's directory, a bundle, or the name of a model in this machine's Ollama store.
        reference: ``host[:port]/namespace/name:tag``.
        insecure: http instead of https.
        ca_file: a PEM file of further certificate authorities to trust.
        parallel: blobs sent at the same time.
        chunk: bytes of one request; 0 < ``chunk``.
        dry_run: find out what would be sent, and send nothing.
        progress: is told ``(label, done, total)``, in bytes.
        transport: for tests.

    Raises:
        UsageError: the source or the reference cannot be one.
        ModelRefused: the source is damaged.
        ServerError: the registry cannot be reached, refuses, or has something else under the tag afterwards.
    """
    where = parse_reference(reference) if isinstance(reference, str) else reference
    trust = {"insecure": insecure, "ca_file": ca_file, "transport": transport}
    with Session(where, PUSH, **trust) as session:  # type: ignore[arg-type]
        check_authority(session)  # before a big file is hashed
    contents = open_contents(source, progress)
    blobs = contents.parts
    known = {name for blob in blobs for name in origins(session.base, blob.digest)} - {where.repository}
    with Session(where, PUSH, others=tuple(sorted(known)), **trust) as session:  # type: ignore[arg-type]

        def look(blob: Part) -> SentBlob:
            how = "there" if has_blob(session, blob.digest) else "missing"
            return SentBlob(blob.kind, blob.digest, blob.size, how)

        def send(blob: Part) -> SentBlob:
            return send_blob(session, blob, chunk=chunk, progress=progress)

        seen = in_parallel(look if dry_run else send, blobs, session, parallel)
        if dry_run:
            return Pushed(str(where), "", contents.size, tuple(seen))
        manifest = contents.manifest
        digest = put_manifest(session, manifest)
    return Pushed(str(where), digest, contents.size, tuple(seen))


def push_places(
    text: str | None, names: Sequence[str], *, tested: bool, insecure: bool = False, ca_file: Path | None = None
) -> list[Reference]:
    """Where models of these names are to be pushed; that we may is found out now, before there is anything to push.

    Raises:
        UsageError: one tag for several models, or models that will not have been tested.
        ServerError: the registry cannot be reached, or does not let us.
    """
    if text is None:
        return []
    if not tested:
        raise UsageError(
            "--push is for what has been tested, and --to file tests nothing", next_step="use another --to"
        )
    tagged = ":" in text.rpartition("/")[2]
    if tagged and len(names) > 1:
        raise UsageError(f"{text!r} is one place for {len(names)} models", next_step="leave the tag out")
    places = [parse_reference(text if tagged else f"{text}:{parse_name(name).tag}") for name in names]
    with Session(places[0], PUSH, insecure=insecure, ca_file=ca_file) as session:
        check_authority(session)
    return places
