"""A model as one file, for machines without a network: a tar of an OCI image layout (image specification 1.1).

The same model gives the same bytes. A bundle from a stranger is never unpacked: the tar's headers tell where each blob
begins, names that are no blob's are not followed, and what is read is verified by digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ollamaq.errors import ModelRefused
from ollamaq.files import check_space, new_file
from ollamaq.ollama import Progress
from ollamaq.ollama.contents import MANIFEST, MAX_MANIFEST, Contents, Part, go_json, parse_manifest
from ollamaq.registry.manifests import OCI_MANIFEST

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
MAX_MEMBERS = 2048
MAX_HEADER = 1 << 16

_BLOB = re.compile("blobs/sha256/([0-9a-f]{64})")


@dataclass(frozen=True)
class Bundle:
    """A model in a file; ``name`` is what it was called where it was bundled, if it tells."""

    name: str | None
    contents: Contents


def write_bundle(path: Path, contents: Contents, name: str, progress: Progress) -> int:
    """Write a model into a tar, which appears when it is whole; its blobs are verified meanwhile. Bytes written.

    Raises:
        ModelRefused: a blob is not what its digest says.
        ToolchainError: the file cannot be written, or the disk has no room for it.
    """
    manifest = contents.manifest
    digest = hashlib.sha256(manifest).hexdigest()
    entry = {"mediaType": MANIFEST, "digest": f"sha256:{digest}", "size": len(manifest)}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry | {"annotations": {REF_NAME: name}}]}
    small = {"oci-layout": LAYOUT, "index.json": go_json(index), f"blobs/sha256/{digest}": manifest}
    blobs = contents.parts
    total, done = sum(blob.size for blob in blobs), 0
    with new_file(path) as new, os.fdopen(os.dup(new.file), "wb") as file:
        check_space(path.parent, total)
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for inside, data in small.items():
                tar.addfile(_member(inside, len(data)), io.BytesIO(data))
            for blob in blobs:
                reader = _Reader(blob.blocks())
                tar.addfile(_member(f"blobs/sha256/{blob.digest.partition(':')[2]}", blob.size), reader)  # type: ignore[arg-type]
                if reader.digest.hexdigest() != blob.digest.partition(":")[2]:
                    raise ModelRefused(
                        f"{blob.path} is not what its name says: {blob.digest}", next_step="pull or publish it again"
                    )
                progress(f"writing {path.name}", done := done + blob.size, total)
        file.flush()
        return file.tell()


def open_bundle(path: Path) -> Bundle:
    """The model in a bundle; the digests of its small parts are verified, those of others when they are read.

    Raises:
        ModelRefused: it is not a bundle, damaged, or made to do harm.
    """
    try:
        with path.open("rb") as file:
            members = dict(_members(path, file))
    except (OSError, tarfile.TarError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a tar, or damaged"
        raise ModelRefused(f"cannot read {path}: {why}", next_step="give a file that `ollamaq bundle` wrote") from error
    try:
        index = json.loads(_small(path, members, "index.json"))
        (entry,) = (entry for entry in index["manifests"] if entry["mediaType"] in (MANIFEST, OCI_MANIFEST))
        digest = str(entry["digest"])
        name = (entry.get("annotations") or {}).get(REF_NAME)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise _refused(path, "its index.json does not name one model") from error
    manifest = _small(path, members, "blobs/" + digest.replace(":", "/", 1))
    if f"sha256:{hashlib.sha256(manifest).hexdigest()}" != digest:
        raise _refused(path, "its manifest is not what the index says")
    told = parse_manifest(manifest, str(path), ModelRefused)
    found = Contents(_find(path, members, told.config), tuple(_find(path, members, blob) for blob in told.layers))
    return Bundle(name if isinstance(name, str) and name.isprintable() else None, found)


class _Reader:
    """Blocks as a file that ``tarfile`` copies from, hashed on the way."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, b""
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (block := next(self._blocks, b"")):
            self.digest.update(block)
            self._rest += block
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class _Bounded(io.RawIOBase):
    """A file of which nothing but headers is read: a header that claims a gigabyte does not get it."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError("a header is too long")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def _members(path: Path, file: io.BufferedReader) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name, offset and size of each file in the tar."""
    length = os.fstat(file.fileno()).st_size
    seen = set()
    with tarfile.open(fileobj=_Bounded(file), mode="r:") as tar:
        for count, member in enumerate(tar):
            name = member.name
            if count >= MAX_MEMBERS:
                raise _refused(path, f"it has more than {MAX_MEMBERS} entries")
            if name.startswith("/") or ".." in name.split("/") or not name.isprintable():
                raise _refused(path, f"it has an entry {name[:100]!r}")
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise _refused(path, f"its entry {name[:100]!r} is not a plain file")
            if name in seen:
                raise _refused(path, f"it has {name[:100]!r} twice")
            seen.add(name)
            if member.offset_data + member.size > length:
                raise _refused(path, f"it ends in the middle of {name[:100]!r}")
            yield name, (member.offset_data, member.size)


def _small(path: Path, members: dict[str, tuple[int, int]], name: str) -> bytes:
    offset, size = members.get(name, (0, -1))
    if not 0 <= size <= MAX_MANIFEST:
        raise _refused(path, f"it has no {name[:100]!r}" if size < 0 else f"its {name[:100]!r} is too long")
    return b"".join(Part("", "", size, path, offset).blocks())


def _find(path: Path, members: dict[str, tuple[int, int]], blob: Part) -> Part:
    place = members.get("blobs/" + blob.digest.replace(":", "/", 1))
    if place is None or place[1] != blob.size:
        raise _refused(path, f"it lacks {blob.digest} ({blob.kind})")
    return replace(blob, path=path, offset=place[0])


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)  # owner 0, time 0
    member.size, member.mode = size, 0o644
    return member


def _refused(path: Path, why: str) -> ModelRefused:
    return ModelRefused(
        f"{path} is not a bundle to be trusted: {why}", next_step="give one that `ollamaq bundle` wrote"
    )
