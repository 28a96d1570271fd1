"""What is pushed or bundled: a package's directory, a bundle, or a model in an Ollama store on this machine."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ollamaq.errors import ServerError, UsageError
from ollamaq.ollama import Progress, silent
from ollamaq.ollama.client import Client, ModelNotFound, ServerGone
from ollamaq.ollama.contents import MAX_TEXT, Contents, contents_of
from ollamaq.ollama.host import parse_host
from ollamaq.ollama.names import default_name, parse_name
from ollamaq.ollama.store import Store, default_root
from ollamaq.package import RELEASE, open_package
from ollamaq.registry.bundle import open_bundle, write_bundle
from ollamaq.registry.manifests import digest_of_manifest


@dataclass(frozen=True)
class Bundled:
    """A bundle that was written: the model's name in it, its manifest's digest, and the size of the file."""

    name: str
    digest: str
    bytes: int


_BLOB = re.compile(r"^FROM (.+)[/\\]blobs[/\\]sha256-[0-9a-f]{64}$", re.MULTILINE)


def open_contents(source: str, progress: Progress) -> Contents:
    """The model that a command's SRC names.

    Raises:
        UsageError: it is neither a path nor a name of a model.
        ServerError: there is no such model on this machine.
        ModelRefused: the files are damaged.
    """
    path = Path(source)
    if path.is_dir():
        package = open_package(path, progress)
        return contents_of(package.gguf, package.sha256, package.modelfile, package.projector)
    if path.is_file():
        return open_bundle(path).contents
    if source.startswith((".", "/", "~")):
        raise UsageError(
            f"{source} does not exist", next_step="give a package's directory, a bundle, or a model's name"
        )
    name = str(parse_name(source))
    store = Store(default_root())
    if store.digest(name) is None:
        store = _store_of_server(name, store)
    return store.contents(name)


def bundle(source: str, path: Path, name: str | None = None, *, progress: Progress = silent) -> Bundled:
    """Write the model that ``source`` names into the bundle ``path``; the same model gives the same bytes.

    Raises:
        UsageError: the source or the name cannot be one.
        ModelRefused: the source is damaged.
        ServerError: there is no such model on this machine.
        ToolchainError: the bundle cannot be written.
    """
    contents = open_contents(source, progress)
    called = str(parse_name(name)) if name else _own_name(source)
    written = write_bundle(path, contents, called, progress)
    return Bundled(called, digest_of_manifest(contents.manifest), written)


def _own_name(source: str) -> str:
    """What a package (by its ``release.json``), a bundle or a model of the store is called."""
    path = Path(source)
    if path.is_file():
        return open_bundle(path).name or default_name(path, "latest")
    if not path.is_dir():
        return str(parse_name(source))
    try:
        with (path / RELEASE).open("rb") as file:
            return str(parse_name(json.loads(file.read(MAX_TEXT))["name"]))
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError, UsageError):
        return default_name(path, "latest")


def _store_of_server(name: str, known: Store) -> Store:
    """The store of the server at OLLAMA_HOST, where it is on this machine: it tells where a model's GGUF lies."""
    step = "give a package's directory, a bundle, or a model of this machine (see `ollama list`)"
    try:
        with Client(parse_host(os.environ.get("OLLAMA_HOST", ""))) as client:
            told, url = client.show(name), client.url
    except (ServerGone, ModelNotFound) as error:
        raise ServerError(f"no model {name} in {known.root}, and {error}", next_step=step) from error
    match = _BLOB.search(str(told.get("modelfile", "")))
    if match is None or not (Path(match[1]) / "manifests").is_dir():
        raise ServerError(f"{url} keeps {name} where this machine cannot read it", next_step=step)
    return Store(Path(match[1]))
