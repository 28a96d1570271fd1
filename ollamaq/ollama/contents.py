"""What a model is made of, wherever it lies: a manifest, and the blobs that it names (Ollama's ``manifest`` package).

The manifest is Docker's schema 2 with media types of Ollama's own; JSON is written as Go writes it, so that digests are
those that a server would compute.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from gguf import LlamaFileType

from ollamaq.errors import ModelRefused, OllamaqError, ServerError
from ollamaq.files import Blob
from ollamaq.gguf.reader import read_gguf
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.render import create_request

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.ollama.image."
GGUF, PROJECTOR = "model.gguf", "mmproj.gguf"
MAX_MANIFEST = 4 << 20
"""Bytes; registries take no bigger ones."""
MAX_TEXT = 16 << 20
"""Bytes of a template, a system prompt, or another layer that is not weights."""
MAX_LAYERS = 1000
MAX_SIZE = 1 << 46
BLOCK = 1 << 20
FILE_TYPES = {int(kind): kind.name.partition("_")[2] for kind in LlamaFileType}
"""``general.file_type`` to what ``ollama show`` calls it: 17 is ``Q5_K_M``."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Part:
    """A part of a model: ``data``, or ``size`` bytes of the file ``path`` from ``offset`` on.

    ``digest`` is ``sha256:<hex>``, ``kind`` what comes after Ollama's prefix: ``model``, ``template``, ``params``, …
    """

    media_type: str
    digest: str
    size: int
    path: Path | None = None
    offset: int = 0
    data: bytes | None = None

    @property
    def kind(self) -> str:
        return self.media_type.removeprefix(LAYER) if self.media_type != CONFIG else "config"

    @property
    def entry(self) -> dict[str, Any]:
        """Its line in a manifest."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes ``start`` to ``end``, in pieces.

        Raises:
            ModelRefused: the file cannot be read, or has become shorter.
        """
        end = self.size if end is None else end
        if self.data is not None:
            yield self.data[start:end]
            return
        assert self.path is not None
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.offset + start)
                while start < end:
                    block = file.read(min(BLOCK, end - start))
                    if not block:
                        raise ModelRefused(f"{self.path} ends early", next_step="publish the model again")
                    yield block
                    start += len(block)
        except OSError as error:
            raise ModelRefused(f"cannot read {self.path}: {error.strerror}", next_step="check the path") from error

    def text(self) -> bytes:
        """All of it, where it is small."""
        if self.size > MAX_TEXT:
            raise ModelRefused(
                f"the {self.kind} of the model has {self.size} bytes, of {MAX_TEXT} allowed",
                next_step="do not use this model: it is damaged, or made to do harm",
            )
        return b"".join(self.blocks())


@dataclass(frozen=True)
class Contents:
    """A whole model. Its manifest is the same wherever it comes from."""

    config: Part
    layers: tuple[Part, ...]

    @property
    def parts(self) -> list[Part]:
        """Each of its parts once, the small ones first."""
        return sorted({blob.digest: blob for blob in (*self.layers, self.config)}.values(), key=lambda blob: blob.size)

    @property
    def manifest(self) -> bytes:
        """As ``ollama push`` sends it."""
        return manifest_json(self.config.entry, [layer.entry for layer in self.layers])

    @property
    def size(self) -> int:
        return sum(blob.size for blob in self.parts)


def contents_of(gguf: Path, sha256: str, modelfile: Modelfile, projector: Blob | None = None) -> Contents:
    """What a server makes of a GGUF and a Modelfile, byte for byte, where it finds no stock template for it.

    Raises:
        ModelRefused: the GGUF is damaged.
    """
    request = create_request(modelfile, "model", {GGUF: f"sha256:{sha256}"})
    layers = [Part(f"{LAYER}model", f"sha256:{sha256}", gguf.stat().st_size, gguf)]
    if projector:  # first, as a server goes by the files' names
        layers.insert(0, Part(f"{LAYER}projector", f"sha256:{projector.sha256}", projector.size, projector.path))
    texts = [("template", request.get("template")), ("system", request.get("system"))]
    texts += [("license", text) for text in request.get("license", ())]
    layers += [small_part(LAYER + kind, text.encode()) for kind, text in texts if text]
    if parameters := request.get("parameters"):
        layers.append(small_part(LAYER + "params", go_json(dict(sorted(parameters.items()))) + b"\n"))
    if messages := request.get("messages"):
        layers.append(small_part(LAYER + "messages", go_json(messages) + b"\n"))
    return Contents(small_part(CONFIG, _config(gguf, modelfile)), tuple(layers))


def small_part(media_type: str, data: bytes) -> Part:
    """A blob of bytes at hand."""
    return Part(media_type, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data), data=data)


def manifest_json(config: dict[str, Any], layers: Sequence[dict[str, Any]]) -> bytes:
    """A manifest of these lines."""
    return go_json({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": list(layers)})


def parse_manifest(data: bytes, where: str, refuse: type[OllamaqError] = ServerError) -> Contents:
    """The blobs that a stranger's manifest names, which are nowhere yet.

    Raises:
        ServerError (or ``refuse``): it is not the manifest of a model.
    """
    try:
        told = json.loads(data)
        entries = [told["config"], *told["layers"]]
        blobs = [_parse_entry(entry) for entry in entries]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise refuse(f"{where} is not the manifest of a model", next_step="see that the name is right") from None
    if len(blobs) > MAX_LAYERS:
        raise refuse(f"{where} names {len(blobs)} blobs, of {MAX_LAYERS} allowed", next_step="do not use it")
    config, *layers = blobs
    if not any(layer.kind == "model" for layer in layers):
        kinds = ", ".join(sorted({blob.media_type for blob in blobs}))[:300]
        raise refuse(f"{where} is not a model of Ollama: it holds {kinds}", next_step="see that the name is right")
    return Contents(config, tuple(layers))


def _parse_entry(entry: dict[str, Any]) -> Part:
    media_type, digest, size = entry["mediaType"], entry["digest"], entry["size"]
    if not (isinstance(media_type, str) and len(media_type) <= 200 and media_type.isprintable()):
        raise ValueError
    if not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
        raise ValueError
    if type(size) is not int or not 0 <= size <= MAX_SIZE:
        raise ValueError
    return Part(media_type, digest, size)


def go_json(value: Any) -> bytes:
    """JSON as Go's ``encoding/json`` writes it."""
    if isinstance(value, dict):
        return b"{" + b",".join(go_json(key) + b":" + go_json(item) for key, item in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(go_json, value)) + b"]"
    if isinstance(value, float):
        return format(Decimal(repr(value)).normalize(), "f").encode() if value else b"0"
    return json.dumps(value, ensure_ascii=False).translate(_ESCAPES).encode()


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
    return go_json(config | {key: value for key, value in more.items() if value}) + b"\n"


def _human(count: int) -> str:
    """Ollama's ``HumanNumber``: ``134.52M``, ``7.6B``."""
    for unit, letter, digits in ((10**9, "B", 1), (10**6, "M", 2)):
        if count >= unit:
            return f"{count // unit}{letter}" if count % unit == 0 else f"{count / unit:.{digits}f}{letter}"
    return f"{count / 1000:.0f}K" if count >= 1000 else str(count)
