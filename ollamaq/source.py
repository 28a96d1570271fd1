"""What a user points at: a checkpoint's directory or a GGUF file, opened as a model in GGUF's terms."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ollamaq.architectures.general import NONE
from ollamaq.chat.choose import CHAT_TEMPLATE, in_format
from ollamaq.chat.forms import gguf_format
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.known import KnownFormat, find_format
from ollamaq.chat.stops import stop_tokens
from ollamaq.checkpoint import Checkpoint, open_checkpoint
from ollamaq.checkpoint.hub import fetched
from ollamaq.checkpoint.lora import Adapter, base_of, is_adapter, merge, parse_weighted, read_adapter
from ollamaq.convert import convert, native_outtype
from ollamaq.convert_adapter import convert_adapter
from ollamaq.convert_projector import convert_projector, left_out
from ollamaq.errors import ModelRefused, UsageError
from ollamaq.gguf.model import Model
from ollamaq.gguf.splits import join, read_parts
from ollamaq.tokenizers.ends import with_end_of_turn

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """An opened model; ``checkpoint`` is None where it came from a GGUF. ``adapters`` are those merged into it.

    ``chat_format`` is the one that its user named. ``projector`` is what makes pictures into something it reads.
    """

    path: Path
    model: Model
    files: tuple[Path, ...]
    checkpoint: Checkpoint | None = None
    adapters: tuple[Adapter, ...] = ()
    chat_format: KnownFormat | None = None
    projector: Model | None = None

    @property
    def merged(self) -> dict[str, Any]:
        """What was merged, for people and for ``release.json``; nothing where nothing was."""
        if not self.adapters or not self.checkpoint:
            return {}
        named = {"base": self.checkpoint.path.resolve().name} | self.adapters[0].names_base()
        return named | {"adapters": [adapter.described() for adapter in self.adapters]}

    @property
    def told(self) -> dict[str, Any]:
        """What its user made of it before it was converted, for ``release.json``."""
        known = self.chat_format
        return self.merged | ({"chat_format": {"name": known.name, "source": known.source}} if known else {})

    @property
    def inputs(self) -> dict[str, Path]:
        """Every file the model is made of, by a name that does not tell where on this machine it lies."""
        if not self.adapters or not self.checkpoint:
            base = self.path if self.path.is_dir() else self.path.parent
            return {file.relative_to(base).as_posix(): file for file in self.files}
        places = [(self.checkpoint.path, "base")]
        places += [(adapter.path, f"adapter{i or ''}") for i, adapter in enumerate(self.adapters)]
        found = {}
        for file in self.files:
            place, name = max((one for one in places if file.is_relative_to(one[0])), key=lambda one: len(one[0].parts))
            found[f"{name}/{file.relative_to(place).as_posix()}"] = file
        return found

    @property
    def n_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)


def fingerprint(files: Iterable[Path]) -> str:
    """Tells files from others, or from what they were before, without reading them."""
    return repr([(str(path.resolve()), stat.st_size, stat.st_mtime_ns) for path in files for stat in [path.stat()]])


def open_source(
    path: Path,
    *,
    outtype: str = "native",
    pre: str | None = None,
    base: Path | None = None,
    adapters: Sequence[str] = (),
    chat_format: str | None = None,
    replace_template: bool = False,
    overrides: Mapping[str, Any] = NONE,
    projector: str | None = None,
) -> Source:
    """Open a model directory, a LoRA adapter's, ``hf://org/name``, or a GGUF file; any part of a split one will do.

    ``outtype`` is what a checkpoint's matrices become on the way: ``native`` loses nothing (BF16 stays BF16, F32 stays
    F32), ``auto`` is what llama.cpp's converter takes. ``pre`` overrides the recognised pre-tokenizer. ``base`` is the
    model that an adapter was trained on, where it is not to be found by the adapter's own word; ``adapters`` (each a
    directory, or ``DIR=WEIGHT``) are merged into a model, or after an adapter. ``chat_format`` is the name of a known
    chat format that it was trained with: its chat template is that, where it has none, or ``replace_template``.
    ``overrides`` are ``general.*`` keys of a directory's, given by hand. ``projector`` is the outtype of the projector
    of a model that sees, where that is wanted too.

    Raises:
        ModelRefused: there is nothing at the path, or it is not a model that can be read.
        UsageError: ``base`` without an adapter, a weight that is no number, ``hf://`` is misspelt, an unknown chat
            format, or one that the model contradicts.
        ServerError: a model of the Hub cannot be fetched.
    """
    known = find_format(chat_format) if chat_format else None
    if replace_template and not known:
        raise UsageError("--replace-template without --chat-format", next_step="name the format to replace it with")
    path = fetched(path)
    if not path.exists():
        raise ModelRefused(f"{path} does not exist", next_step="give a Hugging Face model directory or a GGUF file")
    if path.is_dir():
        checkpoint, opened = _directory(path, base, adapters)
        sees = convert_projector(checkpoint, projector) if projector else None
        if not sees and (said := left_out(checkpoint)):
            log.warning("%s", said)
        outtype = native_outtype(checkpoint) if outtype == "native" else outtype
        model = convert(checkpoint, outtype, pre=pre, overrides=overrides)
        if known:
            model = in_format(model, known, ChatFormat.of(checkpoint), str(path), replace_own=replace_template)
            template = model.metadata[CHAT_TEMPLATE].value
            checkpoint = replace(checkpoint, chat_templates=checkpoint.chat_templates | {"default": template})
        if stops := stop_tokens(checkpoint):
            model = replace(model, metadata=with_end_of_turn(model.metadata, stops[0].text))
        return Source(checkpoint.home, model, _files(checkpoint, opened), checkpoint, tuple(opened), known, sees)
    if projector:
        raise UsageError(
            f"{path} is a GGUF file, from which no projector is made", next_step="give the model directory"
        )
    if base or adapters:
        raise UsageError(
            f"{path} is a GGUF file, into which no adapter is merged", next_step="give the base's model directory"
        )
    if overrides:
        raise UsageError(f"{path} is a GGUF file, whose keys stay", next_step="set them with ollamaq gguf set")
    parts = read_parts(path)
    model = join(parts.values())
    if known:
        model = in_format(model, known, gguf_format(model.metadata), str(path), replace_own=replace_template)
    return Source(path, model, tuple(parts), chat_format=known)


def open_projector(
    path: Path,
    outtype: str,
    *,
    base: Path | None = None,
    adapters: Sequence[str] = (),
    overrides: Mapping[str, Any] = NONE,
) -> Source:
    """Open a directory, as `open_source` does, as what the GGUF of its projector holds.

    Raises:
        ModelRefused: it is no directory, or it has no projector that is supported.
    """
    checkpoint, opened = _directory(fetched(path), base, adapters)
    model = convert_projector(checkpoint, outtype, overrides=overrides)
    return Source(checkpoint.home, model, _files(checkpoint, opened), checkpoint, tuple(opened))


def _directory(path: Path, base: Path | None, adapters: Sequence[str]) -> tuple[Checkpoint, list[Adapter]]:
    """The checkpoint of a model's directory or of an adapter's, and the adapters that were merged into it."""
    first = [(path, 1.0)] if path.is_dir() and is_adapter(path) else []
    opened = [read_adapter(*one) for one in (*first, *map(parse_weighted, adapters))]
    if base and not first:
        raise UsageError(f"{path} is no adapter, so it has no base", next_step="leave --base out")
    place = base_of(opened[0], base) if first else path
    checkpoint = open_checkpoint(place, opened[0].path if opened else None)
    return (merge(checkpoint, opened) if opened else checkpoint), opened


def _files(checkpoint: Checkpoint, adapters: Sequence[Adapter]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys([*checkpoint.files, *(file for adapter in adapters for file in adapter.files)]))


def open_adapter(path: Path, base: Path | None = None) -> Source:
    """Open a LoRA adapter as what a GGUF of an adapter holds.

    Raises:
        ModelRefused: it is no adapter, its base is not here, or GGUF cannot hold it.
    """
    adapter = read_adapter(path)
    checkpoint = open_checkpoint(base_of(adapter, base), path)
    return Source(path, convert_adapter(checkpoint, adapter), adapter.files, checkpoint, (adapter,))
