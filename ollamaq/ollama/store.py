"""A model store on disk, laid out as an Ollama server does (its ``manifest`` and ``create`` packages).

``blobs/sha256-<hex>`` holds contents; ``manifests/<host>/<namespace>/<model>/<tag>`` names the layers of a model.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ollamaq.errors import ServerError, ToolchainError
from ollamaq.files import BLOCK, Blob, new_file
from ollamaq.modelfile.model import Modelfile
from ollamaq.ollama import Progress
from ollamaq.ollama.contents import GGUF, LAYER, PROJECTOR, Contents, Part, contents_of, manifest_json, parse_manifest
from ollamaq.ollama.names import Name, parse_name

MAX_JSON = 16 << 20

_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


def default_root() -> Path:
    """Where Ollama keeps models: OLLAMA_MODELS, else ``~/.ollama/models``."""
    chosen = os.environ.get("OLLAMA_MODELS", "").strip().strip("\"'")
    return Path(chosen) if chosen else Path.home() / ".ollama" / "models"


class Store:
    """The models below a directory, which a server may use at the same time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs, self._manifests = root / "blobs", root / "manifests"

    def create(
        self,
        name: str,
        gguf: Path,
        sha256: str,
        modelfile: Modelfile,
        progress: Progress,
        projector: Blob | None = None,
    ) -> bool:
        """Make a model of a GGUF, byte for byte as a server that finds no stock template for it would.

        The GGUFs are linked where the file system can, else copied. True when it was not in the store yet.

        Raises:
            ModelRefused: the GGUF is damaged.
            ToolchainError: the store cannot be written, or the disk is full.
        """
        parsed = parse_name(name)
        made = contents_of(gguf, sha256, modelfile, projector)
        with _writing(self.root):
            sent = self._add(gguf, sha256, progress)
            if projector:
                self._add(projector.path, projector.sha256, progress)
            for part in made.parts:
                if part.data is not None:
                    self._put(part, part.data)
            names = {"model": GGUF, "projector": PROJECTOR}
            layers = [layer.entry | ({"from": names[layer.kind]} if layer.path else {}) for layer in made.layers]
            self._name(parsed, manifest_json(made.config.entry, layers) + b"\n")
        return sent

    def contents(self, name: str) -> Contents:
        """What a model is made of.

        Raises:
            ServerError: the store has no such model, or not all of it.
        """
        path = self._existing(name)
        told = parse_manifest(_read(path), str(path))
        return Contents(self._found(told.config), tuple(self._found(layer) for layer in told.layers))

    def adopt(self, name: str, contents: Contents) -> None:
        """Give a name to a model the blobs of which are files beside or in the store; they are moved into it.

        Raises:
            ToolchainError: the store cannot be written.
        """
        with _writing(self.root):
            self._blobs.mkdir(parents=True, exist_ok=True)
            for part in contents.parts:
                place = self._blob(part.digest)
                if part.path is not None and part.path != place:
                    os.replace(part.path, place)
                os.utime(place)
            self._name(parse_name(name), contents.manifest)

    def blob(self, digest: str) -> Path | None:
        """The file of a blob that the store has."""
        path = self._blob(digest)
        return path if path.is_file() else None

    def names(self) -> list[Name]:
        """The models in the store."""
        names = (Name(*path.parts[-4:]) for path in sorted(self._manifests.glob("*/*/*/*")) if path.is_file())
        return [name for name in names if not any(part.startswith(".") for part in name.parts)]

    def digest(self, name: str) -> str | None:
        """Hex SHA-256 of the manifest, which ``ollama list`` calls the ID; None where there is no such model."""
        path = self._path(parse_name(name))
        return hashlib.sha256(_read(path)).hexdigest() if path.is_file() else None

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        data = _read(self._existing(source))
        with _writing(self.root):
            self._name(parse_name(destination), data)

    def delete(self, name: str) -> None:
        """Remove a model, and the blobs that no other model has."""
        path = self._existing(name)
        layers = _layers_of(path)
        with _writing(self.root):
            path.unlink()
            for directory in list(path.parents)[:3]:
                with contextlib.suppress(OSError):  # another model is in it
                    directory.rmdir()
            self._prune(layers)

    def model_path(self, name: str) -> Path:
        """The GGUF of a model."""
        if path := self._file(name, "model"):
            return path
        raise ServerError(f"{name} in {self.root} has no GGUF", next_step="publish it again")

    def projector_path(self, name: str) -> Path | None:
        """The GGUF of a model's projector, where it has one."""
        return self._file(name, "projector")

    def _file(self, name: str, kind: str) -> Path | None:
        """The blob of a model's first layer of a kind."""
        for entry in _layers(self._existing(name)):
            if entry["mediaType"] == LAYER + kind:
                return self._blob(entry["digest"])
        return None

    def layer(self, name: str, kind: str) -> str | None:
        """The text of a model's first layer of a kind: ``template``, ``system``, ``params``, ``messages``, …"""
        path = self._file(name, kind)
        return _read(path).decode(errors="replace") if path else None

    def _path(self, name: Name) -> Path:
        """The manifest of a name, or where it will be. Parts that are there already keep their case, as in Ollama."""
        names = self.names()
        for known in [known for known in names if known.same(name)] or names:
            name = Name(
                *(old if old.lower() == new.lower() else new for old, new in zip(known.parts, name.parts, strict=True))
            )
        return self._manifests.joinpath(*name.parts)

    def _existing(self, name: str) -> Path:
        path = self._path(parse_name(name))
        if not path.is_file():
            raise ServerError(f"{self.root} has no model {name}", next_step="see `ollama list`")
        return path

    def _blob(self, digest: str) -> Path:
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise ServerError(
                f"a manifest in {self.root} names the digest {digest!r}", next_step="publish the model again"
            )
        return self._blobs / f"sha256-{match[1]}"

    def _found(self, part: Part) -> Part:
        path = self._blob(part.digest)
        if not path.is_file() or path.stat().st_size != part.size:
            raise ServerError(f"{self.root} lacks a part of the model: {path.name}", next_step="pull the model again")
        return Part(part.media_type, part.digest, part.size, path)

    def _add(self, gguf: Path, sha256: str, progress: Progress) -> bool:
        blob, source = self._blob(f"sha256:{sha256}"), gguf.resolve()
        size = source.stat().st_size
        if blob.is_file() and blob.stat().st_size == size:
            os.utime(blob)  # so that a server that starts now does not prune it as an old orphan
            return False
        self._blobs.mkdir(parents=True, exist_ok=True)
        blob.unlink(missing_ok=True)
        try:
            os.link(source, blob)
            os.utime(blob)
        except OSError:  # another file system, or one without links
            _copy(source, blob, sha256, size, progress)
        return True

    def _put(self, part: Part, data: bytes) -> None:
        path = self._blob(part.digest)
        if path.is_file():
            os.utime(path)
        else:
            _write(path, data)

    def _name(self, name: Name, manifest: bytes) -> None:
        path = self._path(name)
        replaced = _layers_of(path)
        _write(path, manifest)
        self._prune(replaced)

    def _prune(self, layers: list[dict[str, Any]]) -> None:
        """Remove blobs that no model has any more; none at all where some model cannot be read."""
        manifests = [self._manifests.joinpath(*name.parts) for name in self.names()]
        try:
            used = {self._blob(entry["digest"]) for manifest in manifests for entry in _layers(manifest)}
            unused = {self._blob(entry["digest"]) for entry in layers} - used
        except ServerError:
            return
        for blob in unused:
            blob.unlink(missing_ok=True)


def _layers_of(manifest: Path) -> list[dict[str, Any]]:
    """Layers of a manifest that is to go: of none, or of one that cannot be read, there are none."""
    try:
        return _layers(manifest)
    except ServerError:
        return []


def _layers(manifest: Path) -> list[dict[str, Any]]:
    """All layers that a manifest names, its config among them."""
    try:
        content = json.loads(_read(manifest))
        layers = [*content["layers"], content["config"]]
        if all(isinstance(entry["mediaType"], str) and isinstance(entry["digest"], str) for entry in layers):
            return layers
    except (ValueError, RecursionError, LookupError, TypeError):
        pass
    raise ServerError(f"{manifest} is not the manifest of a model", next_step="publish the model again, or remove it")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON + 1)
    except OSError as error:
        raise ServerError(f"cannot read {path}: {error.strerror}", next_step="publish the model again") from error
    if len(data) > MAX_JSON:
        raise ServerError(f"{path} has more than {MAX_JSON >> 20} MiB", next_step="publish the model again")
    return data


def _write(path: Path, data: bytes) -> None:
    with new_file(path) as file, os.fdopen(os.dup(file.file), "wb") as stream:
        stream.write(data)


def _copy(source: Path, blob: Path, sha256: str, size: int, progress: Progress) -> None:
    digest, done = hashlib.sha256(), 0
    with (
        new_file(blob, size) as target,
        source.open("rb", buffering=0) as file,
        os.fdopen(os.dup(target.file), "wb") as stream,
    ):
        while block := file.read(BLOCK):
            stream.write(block)
            digest.update(block)
            progress(f"copying {source.name}", done := done + len(block), size)
        if digest.hexdigest() != sha256:
            raise ToolchainError(f"{source} changed while it was copied", next_step="publish again")


@contextlib.contextmanager
def _writing(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        step = "free some space" if error.errno == errno.ENOSPC else "set OLLAMA_MODELS to a directory of yours"
        raise ToolchainError(f"cannot write {root}: {error.strerror}", next_step=step) from error
