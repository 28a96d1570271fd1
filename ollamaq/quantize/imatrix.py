"""Importance matrices: how much each input of a matrix mattered on some text, in both formats of ``llama-imatrix``.

Formats and arithmetic are those of llama.cpp's ``common/imatrix-loader.cpp`` and ``tools/quantize/quantize.cpp``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType
from numpy.typing import NDArray

from ollamaq.errors import ModelRefused, UsageError
from ollamaq.files import ReadOnlyFile
from ollamaq.gguf.model import Metadata, Model, Value
from ollamaq.gguf.reader import read_gguf
from ollamaq.tensors import Tensor

Weights = Callable[[int], NDArray[np.float32]]
"""``weights(i)``: how much each input of a tensor's matrix ``i`` matters."""

SUMS, COUNTS, SIGNED_SUMS = ".in_sum2", ".counts", ".in_sum"
"""What a GGUF imatrix calls a weight's sums of squares, its counts of rows, and the plain sums (checked, not used)."""
REQUIRED = ("imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size")
MAX_TEXT = 1 << 16
"""Bytes of a name in a legacy file."""
MAX_VALUE = 127
"""Bytes that llama.cpp keeps of a text given on its command line."""
SPAN = 1 << 20
"""Values read at once to see that they are finite."""
INT32_MAX = (1 << 31) - 1


@dataclass(frozen=True)
class Entry:
    """The importance of a tensor's inputs, one expert's after another's; ``values(start, stop)`` reads some of them."""

    n_values: int
    values: Callable[[int, int], NDArray[np.float32]]


@dataclass(frozen=True)
class Imatrix:
    """Importance by tensor name, read when it is asked for.

    ``path`` is the file as it was named, since that is written into what is quantized with it.
    """

    path: str | os.PathLike[str]
    entries: dict[str, Entry]
    datasets: tuple[str, ...] = ()
    chunk_count: int = 0

    def select(self, include: Collection[str] = (), exclude: Collection[str] = ()) -> Imatrix:
        """Only the entries whose names contain one of ``include``, or none of ``exclude``.

        Raises:
            UsageError: both are given.
        """
        if include and exclude:
            raise UsageError("entries of an importance matrix can be included or excluded, not both")
        kept = {
            name: values
            for name, values in self.entries.items()
            if (not include or any(part in name for part in include)) and not any(part in name for part in exclude)
        }
        return replace(self, entries=kept)

    def renamed(self, renamed: Callable[[str], str | None]) -> Imatrix | None:
        """The entries of tensors that have other names now; None if there are no entries."""
        entries = {name: values for old, values in self.entries.items() if (name := renamed(old)) is not None}
        return replace(self, entries=entries) if self.entries else None

    def of(self, tensor: Tensor) -> Weights | None:
        """The weights of each matrix of a tensor, if there are any.

        Raises:
            ModelRefused: an entry has not as many values as the tensor of its name has inputs.
        """
        entry = self.entries.get(tensor.name)
        inputs = tensor.row * (tensor.shape[-3] if len(tensor.shape) > 2 else 1)
        if entry is None:
            return None
        if entry.n_values == inputs:
            return lambda i: entry.values(i * tensor.row, (i + 1) * tensor.row)
        if tensor.name in ("token_embd.weight", "per_layer_token_embd.weight"):  # llama.cpp lets these pass without
            return None
        raise ModelRefused(
            f"{os.fspath(self.path)} has {entry.n_values} values for {tensor.name!r}, which has {inputs} inputs",
            next_step="is it of this model?",
        )

    def metadata(self) -> Metadata:
        """What ``llama-quantize`` adds to a file that it quantizes with these entries: nothing, if there are none."""
        if not self.entries:
            return {}
        facts = {"file": Value(GGUFValueType.STRING, _cut(os.fspath(self.path)))}
        if self.datasets:
            facts["dataset"] = Value(GGUFValueType.STRING, _cut(self.datasets[0]))
        facts["entries_count"] = Value(GGUFValueType.UINT32, len(self.entries))
        if 0 < self.chunk_count <= INT32_MAX:
            facts["chunks_count"] = Value(GGUFValueType.UINT32, self.chunk_count)
        return {f"quantize.imatrix.{key}": value for key, value in facts.items()}


def read_imatrix(path: str | os.PathLike[str]) -> Imatrix:
    """Read an importance matrix, GGUF or legacy ``.dat``: mean squares of the inputs.

    Raises:
        ModelRefused: the file cannot be read, is neither, is damaged, or holds values that are not finite.
    """
    file = ReadOnlyFile(Path(path))
    is_gguf = file.size >= 4 and file.read(0, 4).tobytes() == b"GGUF"
    imatrix = _from_gguf(path, read_gguf(Path(path))) if is_gguf else _Legacy(path, file).read()
    for name, entry in imatrix.entries.items():
        spans = range(0, entry.n_values, SPAN)
        if not all(np.isfinite(entry.values(at, min(at + SPAN, entry.n_values))).all() for at in spans):
            raise _damaged(path, f"has values that are not finite for {name!r}")
    return imatrix


def _from_gguf(path: str | os.PathLike[str], model: Model) -> Imatrix:
    for key in REQUIRED:
        if key not in model.metadata:
            raise _damaged(path, f"is a GGUF file, but no importance matrix: it lacks {key!r}")
    chunk_count, datasets = model.metadata["imatrix.chunk_count"], model.metadata["imatrix.datasets"]
    if chunk_count.type is not GGUFValueType.UINT32:
        raise _damaged(path, "has an imatrix.chunk_count that is no uint32")
    weights: dict[str, dict[str, Tensor]] = {}
    for tensor in model.tensors:
        for suffix in (SUMS, COUNTS, SIGNED_SUMS):
            if tensor.name.endswith(suffix):
                weights.setdefault(tensor.name.removesuffix(suffix), {})[suffix] = tensor
    if not weights:
        raise _damaged(path, "has no entries")
    texts = datasets.value if datasets.element is GGUFValueType.STRING else ()
    entries = {name: _mean_squares(path, name, parts) for name, parts in weights.items()}
    return Imatrix(path, entries, tuple(texts), chunk_count.value)


def _mean_squares(path: str | os.PathLike[str], name: str, parts: dict[str, Tensor]) -> Entry:
    """Sums over counts; 1 for an expert that no text has reached."""
    if SUMS not in parts or COUNTS not in parts:
        raise _damaged(path, f"has only one of sums and counts for {name!r}")
    sums, counts = parts[SUMS], parts[COUNTS]
    if {sums.type, counts.type} != {GGMLQuantizationType.F32}:
        raise _damaged(path, f"has sums or counts for {name!r} that are not F32")
    n_signed = parts.get(SIGNED_SUMS, sums).n_values
    if sums.n_values % counts.n_values or n_signed != sums.n_values:
        raise _damaged(
            path, f"has {sums.n_values} sums, {n_signed} of them signed, and {counts.n_values} counts for {name!r}"
        )
    stored = counts.rows(0, counts.n_rows).reshape(-1)
    if not np.isfinite(stored).all():
        raise _damaged(path, f"has counts that are not finite for {name!r}")
    rounded = np.floor(stored.astype(np.float64) + 0.5).astype(np.float32)
    each = sums.n_values // len(rounded)

    def values(start: int, stop: int) -> NDArray[np.float32]:
        first, last = start // sums.row, -(-stop // sums.row)
        found = sums.rows(first, last).reshape(-1)[start - first * sums.row : stop - first * sums.row]
        count = rounded[np.arange(start, stop) // each]
        return np.divide(found, count, out=np.ones_like(found), where=count > 0)

    return Entry(sums.n_values, values)


class _Legacy:
    """The older format, little-endian, read forward: entries, then the number of chunks and the dataset's name."""

    def __init__(self, path: str | os.PathLike[str], file: ReadOnlyFile) -> None:
        self.path, self.file, self.at = path, file, 0

    @property
    def left(self) -> int:
        return self.file.size - self.at

    def skip(self, n_bytes: int) -> int:
        """Go on behind ``n_bytes``, and say where they begin."""
        if n_bytes > self.left:
            raise _damaged(self.path, f"ends early, or is no importance matrix: {n_bytes} bytes are due at {self.at}")
        self.at += n_bytes
        return self.at - n_bytes

    def take(self, count: int, dtype: str) -> NDArray[Any]:
        return self.file.read(self.skip(count * np.dtype(dtype).itemsize), count, dtype)

    def integer(self) -> int:
        return int(self.take(1, "<i4")[0])

    def text(self, size: int) -> str:
        if not 0 <= size <= MAX_TEXT:
            raise _damaged(self.path, f"is no importance matrix: it has a name of {size} bytes at {self.at}")
        try:
            return self.take(size, "u1").tobytes().decode()
        except UnicodeDecodeError as error:
            raise _damaged(self.path, f"has a name that is not UTF-8 before byte {self.at}") from error

    def read(self) -> Imatrix:
        count = self.integer()
        if count < 1:
            raise _damaged(self.path, f"is no importance matrix: it has {count} entries")
        entries: dict[str, Entry] = {}
        for _ in range(count):
            name, entry = self.entry()
            if name in entries:
                raise _damaged(self.path, f"has {name!r} twice")
            entries[name] = entry
        chunk_count = self.integer() if self.left else 0
        size = self.integer() if self.left else 0
        return Imatrix(self.path, entries, (self.text(size),) if size > 0 else (), chunk_count)

    def entry(self) -> tuple[str, Entry]:
        name = self.text(self.integer())
        n_calls, n_values = self.integer(), self.integer()
        if n_values < 1:
            raise _damaged(self.path, f"has {n_values} values for {name!r}")
        begin = self.skip(4 * n_values)

        def values(start: int, stop: int) -> NDArray[np.float32]:
            found: NDArray[np.float32] = self.file.read(begin + 4 * start, stop - start, "<f4")
            return found / np.float32(n_calls) if n_calls > 0 else found

        return name, Entry(n_values, values)


def _cut(text: str) -> str:
    """What fits, in whole characters: llama.cpp would cut through one and write text that is not UTF-8."""
    return text.encode("utf-8", "surrogateescape")[:MAX_VALUE].decode("utf-8", "ignore")


def _damaged(path: str | os.PathLike[str], what: str) -> ModelRefused:
    return ModelRefused(f"{os.fspath(path)} {what}", next_step="make it again with llama-imatrix")
