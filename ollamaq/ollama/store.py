"""A model store on disk, laid out as an Ollama server does (its ``manifest`` and ``create`` packages).

``blobs/sha256-<hex>`` holds contents; ``manifests/<host>/<namespace>/<model>/<tag>`` names the layers of a model.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from gguf import LlamaFileType

from ollamaq.errors import ServerError, ToolchainError
from ollamaq.files import BLOCK, Blob, new_file
from ollamaq.gguf.reader import read_gguf
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.render import create_request
from ollamaq.ollama import Progress
from ollamaq.ollama.names import Name, parse_name

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.ollama.image."
GGUF, PROJECTOR = "model.gguf", "mmproj.gguf"
MAX_JSON = 16 << 20
FILE_TYPES = {int(kind): kind.name.partition("_")[2] for kind in LlamaFileType}
"""``general.file_type`` to what ``ollama show`` calls it: 17 is ``Q5_K_M``."""

_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


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
        request = create_request(modelfile, name, {GGUF: f"sha256:{sha256}"})
        config = _config(gguf, modelfile)
        with _writing(self.root):
            sent = self._add(gguf, sha256, progress)
            layers = [{**_entry("model", f"sha256:{sha256}", gguf.stat().st_size), "from": GGUF}]
            if projector:
                self._add(projector.path, projector.sha256, progress)
                beside = _entry("projector", f"sha256:{projector.sha256}", projector.size)
                layers.insert(0, {**beside, "from": PROJECTOR})  # a server goes by the names
            texts = [("template", request.get("template")), ("system", request.get("system"))]
            texts += [("license", text) for text in request.get("license", ())]
            layers += [self._put(LAYER + kind, text.encode()) for kind, text in texts if text]
            if parameters := request.get("parameters"):
                layers.append(self._put(LAYER + "params", _go_json(dict(sorted(parameters.items()))) + b"\n"))
            if messages := request.get("messages"):
                layers.append(self._put(LAYER + "messages", _go_json(messages) + b"\n"))
            manifest = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self._put(CONFIG, config),
                "layers": layers,
            }
            self._name(parsed, _go_json(manifest) + b"\n")
        return sent

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

    def _put(self, media_type: str, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        blob = self._blob(digest)
        if blob.is_file():
            os.utime(blob)
        else:
            _write(blob, data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

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


def _config(gguf: Path, modelfile: Modelfile) -> bytes:
    model = read_gguf(gguf)
    architecture, file_type = (model.metadata.get(f"general.{key}") for key in ("architecture", "file_type"))
    family = architecture.value if architecture else "unknown"
    config = {
        "model_format": "gguf",
        "model_family": family,
        "model_families": [family],
        "model_type": _human(sum(math.prod(tensor.shape) for tensor in model.tensors)),
        "file_type": FILE_TYPES.get(file_type.value, "unknown") if file_type else "unknown",
    }
    more = {"renderer": modelfile.renderer, "parser": modelfile.parser, "requires": modelfile.requires}
    return _go_json(config | {key: value for key, value in more.items() if value}) + b"\n"


def _human(count: int) -> str:
    """Ollama's ``HumanNumber``: ``134.52M``, ``7.6B``."""
    for unit, letter, digits in ((10**9, "B", 1), (10**6, "M", 2)):
        if count >= unit:
            return f"{count // unit}{letter}" if count % unit == 0 else f"{count / unit:.{digits}f}{letter}"
    return f"{count / 1000:.0f}K" if count >= 1000 else str(count)


def _entry(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": LAYER + kind, "digest": digest, "size": size}


def _go_json(value: Any) -> bytes:
    """JSON as Go's ``encoding/json`` writes it, so that digests are those that a server would compute."""
    if isinstance(value, dict):
        return b"{" + b",".join(_go_json(key) + b":" + _go_json(item) for key, item in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(_go_json, value)) + b"]"
    if isinstance(value, float):
        return format(Decimal(repr(value)).normalize(), "f").encode() if value else b"0"
    return json.dumps(value, ensure_ascii=False).translate(_ESCAPES).encode()


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
