"""Rules on what a model is built from: FROM, DRAFT and ADAPTER; and on the name it gets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ollamaq.errors import UsageError
from ollamaq.modelfile.lint.rule import Context, Problem, at, at_value
from ollamaq.modelfile.source import Kind, resolve
from ollamaq.modelfile.versions import FINISHED_ONLY
from ollamaq.ollama.names import parse_name

_CLOUD = re.compile(r".+:(?:[^:]*-)?cloud", re.IGNORECASE)
_LOCAL = re.compile(r"(.+):local", re.IGNORECASE)
_STORE = re.compile(r"(^|[/\\])blobs[/\\]sha256[-:][0-9a-f]{64}$")


def missing_file(c: Context) -> Iterator[Problem]:
    """Where there is no file at the path in FROM, Ollama takes the path for the name of a model and asks its registry
    for it. Paths are relative to the Modelfile.
    """
    for command, source in c.sources:
        if command.value and source.kind is Kind.MISSING and not _STORE.search(command.value):
            yield at_value(command, f"there is nothing at {command.value!r}: Ollama would take it for a model's name")


def invalid_name(c: Context) -> Iterator[Problem]:
    """FROM names neither a file nor a model: Ollama would refuse it."""
    for command, source in c.sources:
        if source.kind is not Kind.NAME or not command.value or _CLOUD.fullmatch(command.value):
            continue
        local = _LOCAL.fullmatch(command.value)
        if why := _refused(local[1] if local else command.value):
            yield at_value(command, why)


def cloud_model(c: Context) -> Iterator[Problem]:
    """Models with the tag ``cloud`` run at ollama.com: what users write leaves the machine."""
    for command, source in c.sources:
        if source.kind is Kind.NAME and _CLOUD.fullmatch(command.value):
            yield at_value(command, f"{command.value} runs at ollama.com, not on your server")


def adapter(c: Context) -> Iterator[Problem]:
    """Ollama takes no LoRA adapters since 0.34.1: merge them into the weights before, and give FROM the result."""
    if c.settings.ollama >= FINISHED_ONLY:
        for command in c.all("ADAPTER"):
            yield at(command, "Ollama refuses ADAPTER since 0.34.1: merge it into the model")


def safetensors(c: Context) -> Iterator[Problem]:
    """Since 0.34.1 Ollama no longer converts safetensors to GGUF: it makes MLX models of them, for Apple's and NVIDIA's
    hardware and a few architectures. ``ollamaq publish`` makes a GGUF.
    """
    if c.settings.ollama >= FINISHED_ONLY:
        for command, source in c.sources:
            if source.kind is Kind.SAFETENSORS:
                yield at_value(command, "safetensors become an MLX model since Ollama 0.34.1; give it a GGUF")


def not_gguf(c: Context) -> Iterator[Problem]:
    """There is something at the path in FROM, but it is no model in GGUF (files of Git LFS that were not fetched look
    like that), or files of several kinds.
    """
    for command, source in c.sources:
        if source.kind is Kind.OTHER:
            yield at_value(command, f"what is at {command.value!r} is not a GGUF")


def store_path(c: Context) -> Iterator[Problem]:
    """``ollama show --modelfile`` names files of its server's own store, which are elsewhere on other machines."""
    for command in c.all("FROM", "DRAFT", "ADAPTER"):
        if _STORE.search(command.value):
            yield at_value(command, "this file of a model store is on one machine only; give the model's name")


def missing_draft(c: Context) -> Iterator[Problem]:
    """DRAFT must lead to a file, and to another one than FROM; unlike FROM it never is a model's name."""
    models = {path.resolve() for _, source in c.sources for path in source.paths}
    for command in c.all("DRAFT"):
        found = resolve(command.value, c.directory)
        if not found.paths:
            yield at_value(command, f"there is nothing at {command.value!r}")
        elif any(path.resolve() in models for path in found.paths):
            yield at_value(command, f"{command.value!r} is the model of FROM too: Ollama refuses that")


def reserved_name(c: Context) -> Iterator[Problem]:
    """The name that the model is to get (``--name``) is one that Ollama refuses, or reserves: the tags ``cloud`` and
    ``local`` mean where a model runs.
    """
    if c.settings.name is not None and (why := _refused(c.settings.name)):
        for command, _ in c.sources[:1]:
            yield at(command, why)


def _refused(name: str) -> str | None:
    try:
        parse_name(name)
    except UsageError as error:
        return str(error)
    return None
