"""Where a fetched model goes: the store of this machine, a server, or a package's directory."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Protocol

from ollamaq.errors import ModelRefused, UsageError
from ollamaq.files import Blob, user_cache, write_text
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.render import render
from ollamaq.ollama import Progress
from ollamaq.ollama.contents import GGUF, PROJECTOR, Contents, Part
from ollamaq.ollama.names import parse_name
from ollamaq.ollama.store import Store, default_root
from ollamaq.package import MODELFILE
from ollamaq.servers import Target, open_target
from ollamaq.servers.remote import RemoteServer

SERVED = {"model", "projector", "template", "system", "params", "messages", "license"}
"""The layers that a server can be told to make of a model."""


class Place(Protocol):
    """Somewhere that a model is put."""

    label: str
    staging: Path
    """The directory into which blobs are fetched; emptied when the model is in its place."""

    def has(self, part: Part) -> Part | None:
        """The blob, if it is there already."""

    def put(self, name: str, contents: Contents, progress: Progress) -> str | None:
        """Make the model of blobs that are files. The digest of its manifest there, if it has one."""


def check_output(to: str, output: Path | None) -> None:
    """Raise UsageError where a directory is named for what goes elsewhere."""
    if output and to != "file":
        raise UsageError("--output is for --to file", next_step="leave it out, or add --to file")


def open_place(
    to: str, name: str, output: Path | None, stack: contextlib.ExitStack, **options: Any
) -> StorePlace | PackagePlace | ServerPlace:
    """The place that ``--to`` names, which the ``stack`` closes; ``options`` are those of `servers.open_target`.

    Raises:
        UsageError, ServerError, ToolchainError: there is no such place.
    """
    if to == "file":
        parsed = parse_name(name)
        return PackagePlace(output or Path(f"{parsed.model}-{parsed.tag}"))
    if to == "store":
        return StorePlace(Store(default_root()))
    target = open_target(to, **options)
    if hasattr(target, "store"):
        return StorePlace(target.store)
    return ServerPlace(stack.enter_context(target))


class StorePlace:
    """An Ollama model store: the model is the same there, down to its manifest."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.label = f"the store {store.root}"
        self.staging = store.root / ".ollamaq-downloads"  # beside the blobs, so that they need not be copied

    def has(self, part: Part) -> Part | None:
        """The blob in the store."""
        path = self._store.blob(part.digest)
        if path is None or path.stat().st_size != part.size:
            return None
        return Part(part.media_type, part.digest, part.size, path)

    def put(self, name: str, contents: Contents, progress: Progress) -> str | None:
        """Give the model its name."""
        self._store.adopt(name, contents)
        return self._store.digest(name)


class PackagePlace:
    """A directory with ``model.gguf`` and ``Modelfile``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.label = f"{directory}/"
        self.staging = directory / ".download"

    def has(self, part: Part) -> Part | None:
        """Nothing is."""
        return None

    def put(self, name: str, contents: Contents, progress: Progress) -> str | None:
        """Write the package."""
        modelfile, weights = modelfile_of(contents)
        text = render(modelfile)
        (self._directory / MODELFILE).unlink(missing_ok=True)  # it spoke of the GGUF that is replaced now
        for blob, inside in zip(weights, (GGUF, PROJECTOR), strict=False):
            os.replace(blob.path, self._directory / inside)
        write_text(self._directory / MODELFILE, text)
        return None


class ServerPlace:
    """A server, by its API: the blob is sent, and the model made of it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.label = target.label
        self.staging = user_cache() / "downloads"

    def has(self, part: Part) -> Part | None:
        """The GGUF, where a server that can be asked has it: it need not come through here, then."""
        client = self._target.client if isinstance(self._target, RemoteServer) else None
        if part.kind not in ("model", "projector") or client is None or not client.has_blob(part.digest):
            return None
        return Part(part.media_type, part.digest, part.size, self.staging / "on the server")

    def put(self, name: str, contents: Contents, progress: Progress) -> str | None:
        """Create the model."""
        modelfile, (model, *projector) = modelfile_of(contents)
        self._target.create(name, model.path, model.sha256, modelfile, progress, *projector)
        return self._target.digest(name)


def modelfile_of(contents: Contents) -> tuple[Modelfile, list[Blob]]:
    """What a Modelfile would say of a model's layers, and the GGUFs: the model, and its projector if it has one.

    Raises:
        ModelRefused: it has layers of which no Modelfile makes a model (an adapter), or damaged ones.
    """
    found: dict[str, list[Part]] = {}
    for layer in contents.layers:
        found.setdefault(layer.kind, []).append(layer)
    weights = [found[kind] for kind in ("model", "projector") if kind in found]
    others = sorted(kind for kind, layers in found.items() if kind not in SERVED or (layers in weights and layers[1:]))
    if others:
        raise ModelRefused(
            f"the model has more than weights and texts: {', '.join(others)[:200]}",
            next_step="put it into this machine's store, as it is: --to store",
        )
    texts = {kind: [_text(layer) for layer in layers] for kind, layers in found.items() if layers not in weights}
    config, parameters = _json(_text(contents.config), dict), _json(_last(texts, "params") or "{}", dict)
    messages = _json(_last(texts, "messages") or "[]", list)
    if not all(isinstance(message, dict) for message in messages):
        raise _damaged("messages")
    more = {key: value for key in ("renderer", "parser", "requires") if isinstance(value := config.get(key), str)}
    modelfile = Modelfile(
        from_=f"./{GGUF}",
        projector=f"./{PROJECTOR}" if "projector" in found else None,
        template=_last(texts, "template"),
        system=_last(texts, "system"),
        parameters=parameters,
        licenses=tuple(texts.get("license", ())),
        messages=tuple((str(message.get("role")), str(message.get("content", ""))) for message in messages),
        **more,
    )
    return modelfile, [Blob(_path(layers[0]), layers[0].digest.partition(":")[2], layers[0].size) for layers in weights]


def _path(part: Part) -> Path:
    assert part.path is not None
    return part.path


def clear_staging(staging: Path, contents: Contents) -> None:
    """Remove what was fetched and is in its place now."""
    with contextlib.suppress(OSError):
        for blob in contents.parts:
            (staging / blob.digest.replace(":", "-")).unlink(missing_ok=True)
        staging.rmdir()


def _last(texts: dict[str, list[str]], kind: str) -> str | None:
    return texts[kind][-1] if kind in texts else None


def _text(blob: Part) -> str:
    try:
        return blob.text().decode()
    except UnicodeDecodeError:
        raise _damaged(blob.kind) from None


def _json(text: str, kind: type[Any]) -> Any:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, kind):
        raise _damaged("JSON")
    return told


def _damaged(what: str) -> ModelRefused:
    return ModelRefused(f"the {what} of the model is damaged", next_step="publish and push it again")
