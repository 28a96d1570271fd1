"""A model fetched from a registry or a bundle, verified, and put where it can run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from ollamaq.errors import ServerError, UsageError
from ollamaq.ollama import Progress, silent
from ollamaq.ollama.contents import Contents, Part, parse_manifest
from ollamaq.ollama.names import parse_name
from ollamaq.registry.bundle import open_bundle
from ollamaq.registry.downloads import extract_blob, fetch_blob
from ollamaq.registry.manifests import get_manifest
from ollamaq.registry.parallel import in_parallel
from ollamaq.registry.places import Place, check_output, clear_staging, open_place
from ollamaq.registry.push import PARALLEL
from ollamaq.registry.reference import parse_reference
from ollamaq.registry.session import PULL, Session


@dataclass(frozen=True)
class Pulled:
    """A model in its place; ``digest`` is that of its manifest there, and ``fetched`` the bytes that were missing."""

    name: str
    place: str
    digest: str | None
    size: int
    fetched: int


def pull(
    reference: str,
    name: str | None = None,
    *,
    to: str = "auto",
    output: Path | None = None,
    insecure: bool = False,
    ca_file: Path | None = None,
    parallel: int = PARALLEL,
    progress: Progress = silent,
    transport: httpx.BaseTransport | None = None,
    **options: Any,
) -> Pulled:
    """Fetch a model from a registry, from those too that Ollama cannot pull from.

    Args:
        reference: ``host[:port]/namespace/name:tag``, or ``…/name@sha256:…``.
        name: what to call it; by default what it is called there.
        to: ``auto``, a server's address, ``container``, ``store``, or ``file`` (a package's directory).
        output: that directory; by default ``./<name>-<tag>``.
        insecure: http instead of https.
        ca_file: a PEM file of further certificate authorities to trust.
        parallel: blobs fetched at the same time.
        progress: is told ``(label, done, total)``, in bytes.
        transport: for tests.
        options: those of `servers.open_target`.

    Raises:
        UsageError: a name or a reference that cannot be one.
        ModelRefused: the model is damaged, or not one for that place.
        ServerError: the registry cannot be reached, refuses, or sends something else; or the server does.
        ToolchainError: the disk is full or cannot be written.
    """
    check_output(to, output)
    where = parse_reference(reference)
    if not name and ":" in where.tag:
        raise UsageError(f"{reference} has no tag to be called by", next_step="give a name after it")
    called = str(parse_name(name or str(where)))
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(
            Session(where, PULL, insecure=insecure, ca_file=ca_file, transport=transport),
        )
        contents = _contents(session)
        place = open_place(to, called, output, stack, **options)

        def fetch(missing: list[Part]) -> list[Part]:
            return in_parallel(
                lambda blob: fetch_blob(session, blob, place.staging, progress), missing, session, parallel
            )

        return _bring(called, contents, place, fetch, progress)


def contents_in_registry(
    reference: str,
    *,
    insecure: bool = False,
    ca_file: Path | None = None,
    transport: httpx.BaseTransport | None = None,
) -> Contents:
    """What a model in a registry is made of, by its manifest alone; the arguments are those of `pull`.

    Raises:
        UsageError: a reference that cannot be one.
        ServerError: the registry cannot be reached or refuses, or has no such model.
    """
    with Session(parse_reference(reference), PULL, insecure=insecure, ca_file=ca_file, transport=transport) as session:
        return _contents(session)


def _contents(session: Session) -> Contents:
    where, manifest = session.reference, get_manifest(session)
    if manifest is None:
        raise ServerError(f"{where.host} has no model {where}", next_step="check the name and the tag")
    return parse_manifest(manifest, str(where))


def install(
    path: Path,
    name: str | None = None,
    *,
    to: str = "auto",
    output: Path | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Pulled:
    """Put a bundle's model where it can run; the arguments are those of `pull`.

    Raises:
        ModelRefused: the bundle is damaged, or made to do harm.
        UsageError, ServerError, ToolchainError: as `pull`.
    """
    check_output(to, output)
    bundle = open_bundle(path)
    if not (name or bundle.name):
        raise UsageError(f"{path} does not tell what its model is called", next_step="give a name after it")
    called = str(parse_name(name or bundle.name or ""))
    with contextlib.ExitStack() as stack:
        place = open_place(to, called, output, stack, **options)

        def extract(missing: list[Part]) -> list[Part]:
            try:
                return [extract_blob(blob, place.staging, progress) for blob in missing]
            except BaseException:
                clear_staging(place.staging, bundle.contents)
                raise

        return _bring(called, bundle.contents, place, extract, progress)


def _bring(
    name: str, contents: Contents, place: Place, get: Callable[[list[Part]], list[Part]], progress: Progress
) -> Pulled:
    there = {blob.digest: found for blob in contents.parts if (found := place.has(blob))}
    missing = [blob for blob in contents.parts if blob.digest not in there]
    files = there | {blob.digest: blob for blob in get(missing)}

    def placed(blob: Part) -> Part:
        found = files[blob.digest]
        return replace(found, media_type=blob.media_type)

    whole = Contents(placed(contents.config), tuple(map(placed, contents.layers)))
    digest = place.put(name, whole, progress)
    clear_staging(place.staging, contents)
    return Pulled(name, place.label, digest, contents.size, sum(blob.size for blob in missing))
