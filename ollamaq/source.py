"""What a user points at: a checkpoint's directory or a GGUF file, opened as a model in GGUF's terms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ollamaq.chat.stops import stop_tokens
from ollamaq.checkpoint import Checkpoint, open_checkpoint
from ollamaq.checkpoint.hub import fetched
from ollamaq.convert import convert, native_outtype
from ollamaq.errors import ModelRefused
from ollamaq.gguf.model import Model
from ollamaq.gguf.splits import join, read_parts
from ollamaq.tokenizers.ends import with_end_of_turn


@dataclass(frozen=True)
class Source:
    """An opened model; ``checkpoint`` is None where it came from a GGUF."""

    path: Path
    model: Model
    files: tuple[Path, ...]
    checkpoint: Checkpoint | None = None

    @property
    def n_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)


def fingerprint(files: Iterable[Path]) -> str:
    """Tells files from others, or from what they were before, without reading them."""
    return repr([(str(path.resolve()), stat.st_size, stat.st_mtime_ns) for path in files for stat in [path.stat()]])


def open_source(path: Path, *, outtype: str = "native", pre: str | None = None) -> Source:
    """Open a model directory, ``hf://org/name``, or a GGUF file; of a split one, any part stands for the whole.

    ``outtype`` is what a checkpoint's matrices become on the way: ``native`` loses nothing (BF16 stays BF16, F32 stays
    F32), ``auto`` is what llama.cpp's converter takes. ``pre`` overrides the recognised pre-tokenizer.

    Raises:
        ModelRefused: there is nothing at the path, or it is not a model that can be read.
        UsageError, ServerError: ``hf://`` is misspelt, or the model cannot be fetched.
    """
    path = fetched(path)
    if not path.exists():
        raise ModelRefused(f"{path} does not exist", next_step="give a Hugging Face model directory or a GGUF file")
    if path.is_dir():
        checkpoint = open_checkpoint(path)
        outtype = native_outtype(checkpoint) if outtype == "native" else outtype
        model = convert(checkpoint, outtype, pre=pre)
        if stops := stop_tokens(checkpoint):
            model = replace(model, metadata=with_end_of_turn(model.metadata, stops[0].text))
        return Source(path, model, tuple(checkpoint.files), checkpoint)
    parts = read_parts(path)
    return Source(path, join(parts.values()), tuple(parts))
