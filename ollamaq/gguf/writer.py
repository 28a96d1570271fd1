"""Writes GGUF version 3, little-endian: header, metadata, tensor infos, then tensors, each padded to the alignment."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGUF_MAGIC, GGUF_VERSION, GGMLQuantizationType, GGUFValueType

from ollamaq.files import new_file
from ollamaq.gguf.model import Metadata, Model, Value

TensorInfo = tuple[str, tuple[int, ...], GGMLQuantizationType]
CHUNK = 1 << 21
"""Values written at once."""

SCALARS = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<?",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
}


@dataclass(frozen=True)
class Layout:
    """Where everything lies: ``header`` is all that precedes the tensors, ``offsets`` count from the file's start."""

    header: bytes
    offsets: list[int]
    total_size: int


def layout(metadata: Metadata, tensors: Sequence[TensorInfo]) -> Layout:
    """Lay out a file of tensors ``(name, shape in numpy's order, type)``; every tensor is padded, the last one too."""
    alignment = int(metadata["general.alignment"].value) if "general.alignment" in metadata else GGUF_DEFAULT_ALIGNMENT
    infos, places, place = [], [], 0
    for name, shape, type_ in tensors:
        dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        infos.append(_string(name) + dimensions + struct.pack("<IQ", type_, place))
        places.append(place)
        block, size = GGML_QUANT_SIZES[type_]
        place += aligned(math.prod(shape) // block * size, alignment)
    keys = b"".join(_string(key) + struct.pack("<I", value.type) + _value(value) for key, value in metadata.items())
    header = struct.pack("<IIQQ", GGUF_MAGIC, GGUF_VERSION, len(tensors), len(metadata)) + keys + b"".join(infos)
    header = header.ljust(aligned(len(header), alignment), b"\0")
    return Layout(header, [len(header) + place for place in places], len(header) + place)


def write(path: Path, model: Model, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Write a model as it is and return the file's size; the file appears under its name when it is whole."""
    place = layout(model.metadata, [(tensor.name, tensor.shape, tensor.type) for tensor in model.tensors])
    with new_file(path, place.total_size) as new:
        _write(new.file, place.header, 0)
        for tensor, start in zip(model.tensors, place.offsets, strict=True):
            offset, step = start, max(1, CHUNK // tensor.row)
            for row in range(0, tensor.n_rows, step):
                data = np.ascontiguousarray(tensor.rows(row, min(row + step, tensor.n_rows)))
                _write(new.file, data.view(np.uint8).reshape(-1).data, offset)
                offset += data.nbytes
                progress(offset, place.total_size)
    progress(place.total_size, place.total_size)
    return place.total_size


def _write(file: int, data: bytes | memoryview, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written


def aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    if value.type is GGUFValueType.ARRAY:
        assert value.element is not None
        return struct.pack("<IQ", value.element, len(value.value)) + _array(value.element, value.value)
    if value.type is GGUFValueType.STRING:
        return _string(value.value)
    return struct.pack(SCALARS[value.type], value.value)


def _array(element: GGUFValueType, items: Iterable[Any]) -> bytes:
    if element is GGUFValueType.STRING:
        return b"".join([part for item in items for part in _counted(item.encode())])
    return np.array(items, SCALARS[element]).tobytes()


def _counted(data: bytes) -> tuple[bytes, bytes]:
    return len(data).to_bytes(8, "little"), data
