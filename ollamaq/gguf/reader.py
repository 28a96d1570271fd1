"""Reads GGUF files from strangers: every count, length and offset is checked against the file before it is used."""

from __future__ import annotations

import math
import struct
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGUF_MAGIC, GGMLQuantizationType, GGUFValueType
from numpy.typing import NDArray

from ollamaq.errors import ModelRefused
from ollamaq.files import ReadOnlyFile
from ollamaq.gguf import types  # noqa: F401  # so that they can be read
from ollamaq.gguf.model import Metadata, Model, Value
from ollamaq.gguf.writer import SCALARS, aligned
from ollamaq.tensors import Tensor

VERSIONS = (2, 3)
MAX_HEADER = 1 << 28
"""A header holds a vocabulary at most: hundreds of thousands of short strings."""
MAX_DIMENSIONS = 4
DEFAULT_ALIGNMENT = Value(GGUFValueType.UINT32, GGUF_DEFAULT_ALIGNMENT)
ALIGNMENTS = frozenset(1 << i for i in range(3, 21))
STORED = {
    GGMLQuantizationType.F32: np.float32,
    GGMLQuantizationType.F16: np.float16,
    GGMLQuantizationType.BF16: np.uint16,
}


def read_gguf(path: Path) -> Model:
    """Read a file's metadata and the places of its tensors; their rows are read when asked for.

    Raises:
        ModelRefused: the file is not GGUF version 2 or 3, little-endian, or is damaged.
    """
    file = ReadOnlyFile(path)
    header = _Header(file)
    magic, version = header.unpack("<II")
    if magic != GGUF_MAGIC:
        raise ModelRefused(f"{path} is not a GGUF file", next_step="give a Hugging Face model directory or a GGUF file")
    if version not in VERSIONS:
        raise ModelRefused(
            f"{path} is of GGUF version {version}; 2 and 3 can be read", next_step="convert the model anew"
        )
    n_tensors, n_values = header.unpack("<QQ")
    metadata: Metadata = {}
    for _ in range(header.bounded(n_values, 13)):
        key = header.string()
        if key in metadata:
            raise header.damaged(f"has the key {key!r} twice")
        metadata[key] = header.value(header.enum(GGUFValueType, header.unpack("<I")[0]))
    infos = [header.tensor_info() for _ in range(header.bounded(n_tensors, 24))]
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if alignment.type is not GGUFValueType.UINT32 or alignment.value not in ALIGNMENTS:
        raise header.damaged(f"is aligned to {str(alignment.value)[:40]!r} bytes")
    return Model(metadata, _place(header, infos, alignment.value))


class _Header:
    """The front of a file, read forward."""

    def __init__(self, file: ReadOnlyFile) -> None:
        self.file = file
        self.data = b""
        self.at = 0

    def damaged(self, what: str) -> ModelRefused:
        return ModelRefused(f"{self.file.path} {what}", next_step="fetch or convert it again")

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > min(self.file.size, MAX_HEADER):
            raise self.damaged(f"ends in the middle of its header, at byte {self.file.size}")
        if end > len(self.data):
            more = min(max(end - len(self.data), 1 << 20, len(self.data)), self.file.size - len(self.data))
            self.data += self.file.read(len(self.data), more).tobytes()
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def bounded(self, count: int, size: int) -> int:
        """A count of things of at least ``size`` bytes, if there is room for them."""
        if count * size > self.file.size - self.at:
            raise self.damaged(f"claims {count} entries in {self.file.size} bytes")
        return count

    def string(self) -> str:
        try:
            return self.take(self.bounded(self.unpack("<Q")[0], 1)).decode()
        except UnicodeDecodeError as error:
            raise self.damaged(f"has text that is not UTF-8 near byte {self.at}") from error

    def enum(self, kind: Any, number: int) -> Any:
        try:
            return kind(number)
        except ValueError as error:
            raise self.damaged(f"has a value of unknown type {number}") from error

    def value(self, type_: GGUFValueType) -> Value:
        if type_ is GGUFValueType.STRING:
            return Value(type_, self.string())
        if type_ is not GGUFValueType.ARRAY:
            return Value(type_, self.unpack(SCALARS[type_])[0])
        number, count = self.unpack("<IQ")
        element = self.enum(GGUFValueType, number)
        if element is GGUFValueType.ARRAY:
            raise self.damaged("has an array of arrays")
        if element is GGUFValueType.STRING:
            return Value(type_, [self.string() for _ in range(self.bounded(count, 8))], element)
        form = np.dtype(SCALARS[element])
        return Value(
            type_, np.frombuffer(self.take(self.bounded(count, form.itemsize) * form.itemsize), form).tolist(), element
        )

    def tensor_info(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        name = self.string()
        (n_dimensions,) = self.unpack("<I")
        if not 1 <= n_dimensions <= MAX_DIMENSIONS:
            raise self.damaged(f"has tensor {name!r} of {n_dimensions} dimensions")
        shape = tuple(reversed(self.unpack(f"<{n_dimensions}Q")))
        number, offset = self.unpack("<IQ")
        type_ = self.enum(GGMLQuantizationType, number)
        block, _ = GGML_QUANT_SIZES[type_]
        if 0 in shape or shape[-1] % block:
            raise self.damaged(f"has tensor {name!r} of shape {list(shape)} in {type_.name}")
        return name, shape, type_, offset


def _place(
    header: _Header, infos: list[tuple[str, tuple[int, ...], GGMLQuantizationType, int]], alignment: int
) -> tuple[Tensor, ...]:
    start = aligned(header.at, alignment)
    tensors, end = {}, 0
    for name, shape, type_, offset in sorted(infos, key=lambda info: info[3]):
        block, size = GGML_QUANT_SIZES[type_]
        if name in tensors:
            raise header.damaged(f"has tensor {name!r} twice")
        if offset % alignment or offset < end:
            raise header.damaged(f"has tensor {name!r} at offset {offset}, unaligned or over another one")
        end = offset + math.prod(shape) // block * size
        if start + end > header.file.size:
            raise header.damaged(f"ends before tensor {name!r} does, at byte {header.file.size}")
        row_bytes = shape[-1] // block * size
        rows = partial(_rows, header.file, start + offset, row_bytes, np.dtype(STORED.get(type_, np.uint8)))
        tensors[name] = Tensor(name, type_, shape, rows)
    return tuple(tensors[info[0]] for info in infos)


def _rows(file: ReadOnlyFile, offset: int, row_bytes: int, dtype: np.dtype[Any], start: int, stop: int) -> NDArray[Any]:
    row = row_bytes // dtype.itemsize
    return file.read(offset + start * row_bytes, (stop - start) * row, dtype).reshape(stop - start, row)
