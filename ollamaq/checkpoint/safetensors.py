"""The safetensors format: an 8-byte length, a JSON header of that length, and the tensors' bytes without holes.

Format: https://huggingface.co/docs/safetensors (the reference also refuses overlaps, holes and headers over 100 MB).
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from ollamaq.errors import ModelRefused
from ollamaq.files import ReadOnlyFile
from ollamaq.tensors import Tensor

MAX_HEADER = 100_000_000
MAX_AXES = 5
"""GGUF has 4 at most; a convolution of video frames, of which nothing is converted, has 5."""
DTYPES: dict[str, tuple[Type, type[np.generic]]] = {
    "F32": (Type.F32, np.float32),
    "F16": (Type.F16, np.float16),
    "BF16": (Type.BF16, np.uint16),
    "U8": (Type.I8, np.uint8),
}
"""``U8`` is what packed weights lie in; GGUF has no such type, and the nearest one stands for it here."""


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, sorted by name; their rows are read when asked for.

    Raises:
        ModelRefused: the file is damaged, or has a dtype other than F32, F16 and BF16.
    """
    file = ReadOnlyFile(path)
    if file.size < 8:
        raise _damaged(path, f"is {file.size} bytes long, too short for a safetensors file")
    length = int(file.read(0, 1, "<u8")[0])
    if length > MAX_HEADER or length > file.size - 8:
        raise _damaged(path, f"claims a header of {length} bytes in a file of {file.size}")
    header = _header(path, file.read(8, length).tobytes())
    start, end = 8 + length, file.size
    tensors, spans = {}, []
    for name, entry in header.items():
        if name != "__metadata__":
            tensors[name], span = _tensor(file, name, entry, start)
            spans.append((*span, name))
    place = start
    for begin, stop, name in sorted(spans):
        if begin != place:
            raise _damaged(path, f"has tensor {name!r} at byte {begin} where byte {place} was due")
        place = stop
    if place != end:
        raise _damaged(path, f"should be {place} bytes long by its header, and is {end}")
    return dict(sorted(tensors.items()))


def _header(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise _damaged(path, "names a tensor twice in its header")
        return found

    try:
        header = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "has a header that is not JSON") from error
    if not isinstance(header, dict):
        raise _damaged(path, "has a header that is not a JSON object")
    return header


def _tensor(file: ReadOnlyFile, name: str, entry: Any, start: int) -> tuple[Tensor, tuple[int, int]]:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(stop)]} if all(
            isinstance(n, int) and n >= 0 for n in shape
        ):
            pass
        case _:
            raise _damaged(file.path, f"describes tensor {name!r} as {str(entry)[:80]}")
    if dtype not in DTYPES:
        raise ModelRefused(
            f"tensor {name!r} of {file.path} has dtype {dtype[:20]!r}; F32, F16 and BF16 can be read",
            next_step="save the model in BF16",
        )
    if len(shape) > MAX_AXES or 0 in shape:
        raise _damaged(file.path, f"has tensor {name!r} of {len(shape)} axes, {str(shape)[:80]}")
    type_, stored = DTYPES[dtype]
    size = np.dtype(stored).itemsize
    if not 0 <= begin <= stop <= file.size - start:
        raise _damaged(file.path, f"has tensor {name!r} at bytes {begin} to {stop} of its {file.size - start}")
    if stop - begin != math.prod(shape) * size:
        raise _damaged(file.path, f"has {stop - begin} bytes for tensor {name!r} of shape {shape} in {dtype}")
    rows = partial(_rows, file, start + begin, shape[-1] if shape else 1, stored)
    return Tensor(name, type_, tuple(shape), rows), (start + begin, start + stop)


def _rows(file: ReadOnlyFile, offset: int, row: int, dtype: type[np.generic], start: int, stop: int) -> NDArray[Any]:
    values = file.read(offset + start * row * np.dtype(dtype).itemsize, (stop - start) * row, dtype)
    return values.reshape(stop - start, row)


def _damaged(path: Path, what: str) -> ModelRefused:
    return ModelRefused(f"{path} {what}", next_step="fetch or save it again")
