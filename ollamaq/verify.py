"""Whether a package, or a model on a server or in a registry, is what its ``release.json`` says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from ollamaq.digests import digest_of
from ollamaq.errors import ModelRefused
from ollamaq.modelfile.diff import Change, comparable, diff, meaning, server_meaning
from ollamaq.modelfile.parser import Document, read_modelfile
from ollamaq.ollama import silent
from ollamaq.ollama.contents import Contents
from ollamaq.package import MODELFILE, RELEASE
from ollamaq.provenance import STATEMENT, statement, subjects, written
from ollamaq.registry.pull import contents_in_registry
from ollamaq.registry.sources import open_contents
from ollamaq.servers import Target
from ollamaq.servers.target import Unsupported
from ollamaq.signing import ENVELOPE, signed_payload
from ollamaq.smoke.checks import quoted

MAX_RELEASE = 256 << 20
SHAPE: dict[str, type] = {"name": str, "inputs": dict, "gguf": dict, "versions": dict, "tensors": list}


def read_release(path: Path) -> dict[str, Any]:
    """What a ``release.json`` says.

    Raises:
        ModelRefused: it cannot be read, or is none.
    """
    try:
        with path.open("rb") as file:
            data = json.loads(file.read(MAX_RELEASE))
    except OSError as error:
        raise ModelRefused(
            f"{path} cannot be read: {error.strerror}", next_step="give a package's directory"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelRefused(f"{path} is not JSON: {error}", next_step="publish again") from error
    if not isinstance(data, dict) or any(not isinstance(data.get(key), kind) for key, kind in SHAPE.items()):
        raise ModelRefused(f"{path} is no release of ollamaq", next_step="publish again")
    if not all(_plain(name) and isinstance(digest, str) for name, digest in subjects(data).items()):
        raise ModelRefused(f"{path} names files outside of the package", next_step="do not trust this package")
    return data


def _plain(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name


def differences_of_package(directory: Path, key: Path | None = None) -> Iterator[str]:
    """What is otherwise in a package's directory than its release says; with a key, also what that has not signed.

    Raises:
        ModelRefused: it is no package.
        GateFailed: the key has not signed it.
    """
    release = read_release(directory / RELEASE)
    for name, wanted in subjects(release).items():
        path = directory / name
        if not path.is_file():
            yield f"{name} is missing"
        elif (found := digest_of(path)) != wanted:
            yield f"{name} is sha256:{found}, where the release says sha256:{wanted}"
    stated = written(statement(release)).encode()
    path = directory / STATEMENT
    if path.is_file() and path.read_bytes() != stated:
        yield f"{STATEMENT} tells another story than {RELEASE}"
    if key and signed_payload(directory / ENVELOPE, key) != stated:
        yield f"{ENVELOPE} holds another story than {RELEASE}"


def differences_of_model(directory: Path, target: Target, name: str) -> Iterator[str]:
    """What a model on a server has otherwise than a package: its weights, and what its Modelfile means.

    A server does not tell all of a Modelfile; where it tells nothing but the weights, they alone are compared.

    Raises:
        ModelRefused: it is no package.
        ServerError: the server cannot be reached, or has no such model.
    """
    wanted = read_release(directory / RELEASE)["gguf"]["sha256"]
    found, changes = on_target(target, name, read_modelfile(directory / MODELFILE))
    if found != wanted:
        yield f"its weights are sha256:{found}, where the release says sha256:{wanted}"
    for change in changes:
        yield f"{change.key} is {_shown(change.new)}, where the package says {_shown(change.old)}"


def differences_of_reference(
    directory: Path,
    reference: str,
    *,
    insecure: bool = False,
    ca_file: Path | None = None,
    transport: httpx.BaseTransport | None = None,
) -> Iterator[str]:
    """What a model in a registry has otherwise than a package, by the digests of all its parts; nothing is fetched.

    The arguments are those of `registry.pull.pull`.

    Raises:
        UsageError: the reference cannot be one.
        ModelRefused: it is no package.
        ServerError: the registry cannot be reached or refuses, or has no such model.
    """
    here = _by_kind(open_contents(str(directory), silent))
    there = _by_kind(contents_in_registry(reference, insecure=insecure, ca_file=ca_file, transport=transport))
    for kind in here | there:
        found, wanted = (", ".join(side.get(kind, ())) or "nothing" for side in (there, here))
        if found != wanted:
            yield f"its {kind} is {found}, where the package has {wanted}"


def _by_kind(contents: Contents) -> dict[str, list[str]]:
    digests: dict[str, list[str]] = {}
    for part in (*contents.layers, contents.config):
        digests.setdefault(part.kind, []).append(part.digest)
    return digests


def on_target(target: Target, name: str, modelfile: Document) -> tuple[str, list[Change]]:
    """SHA-256 of a model's weights where it runs, and what else it means there than a Modelfile, as far as that tells.

    Raises:
        ServerError: the server cannot be reached, or has no such model.
    """
    weights = target.weights(name)
    try:
        there = server_meaning(target.show(name))
    except Unsupported:
        return weights, []
    return weights, diff(*comparable(meaning(modelfile), there))


def _shown(values: Sequence[str]) -> str:
    return ", ".join(map(quoted, values)) or "nothing"
