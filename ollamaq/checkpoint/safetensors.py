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
from ollamaq.tensors import Rows, Tensor

MAX_HEADER = 100_000_000
MAX_AXES = 5
"""GGUF has 4 at most; a convolution of video frames, of which nothing is converted, has 5."""
DTYPES: dict[str, tuple[Type, type[np.generic]]] = {
    "F32": (Type.F32, np.float32),
    "F16": (Type.F16, np.float16),
    "BF16": (Type.BF16, np.uint16),
    "I8": (Type.I8, np.int8),
    "U8": (Type.I8, np.uint8),
    "BOOL": (Type.I8, np.uint8),
    "I16": (Type.I16, np.int16),
    "I32": (Type.I32, np.int32),
    "U32": (Type.I32, np.uint32),
    "I64": (Type.I64, np.int64),
    "F8_E4M3": (Type.F32, np.uint8),
    "F8_E5M2": (Type.F32, np.uint8),
    "F8_E8M0": (Type.F32, np.uint8),
}
"""Integers are what quantized weights are packed in; GGUF's types for them stand for those without a sign, too."""


def _eight_bits() -> dict[str, NDArray[np.float32]]:
    """The values of 8-bit floats by their code (OCP's "8-bit Floating Point" and "Microscaling Formats")."""
    code = np.arange(256)
    sign, exponent, mantissa = np.where(code < 128, 1, -1), code >> 3 & 15, code & 7
    e4m3 = sign * np.where(exponent > 0, np.ldexp(1 + mantissa / 8, exponent - 7), np.ldexp(mantissa / 8, -6))
    e4m3[code & 127 == 127] = np.nan
    e8m0 = np.append(np.ldexp(1.0, np.arange(255) - 127), np.nan)
    tables = {"F8_E4M3": e4m3, "F8_E5M2": (code << 8).astype(np.uint16).view(np.float16), "F8_E8M0": e8m0}
    return {name: table.astype(np.float32) for name, table in tables.items()}


EIGHT_BITS = _eight_bits()
"""They are read as float32, which holds each of them."""


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, sorted by name; their rows are read when asked for.

    Raises:
        ModelRefused: the file is damaged, or has a dtype that is not in ``DTYPES``.
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
            f"tensor {name!r} of {file.path} has dtype {dtype[:20]!r}; {', '.join(DTYPES)} can be read",
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
    rows = stored_rows(file, start + begin, tuple(shape), stored)
    if dtype in EIGHT_BITS:
        rows = partial(_looked_up, EIGHT_BITS[dtype], rows)
    return Tensor(name, type_, tuple(shape), rows), (start + begin, start + stop)


def stored_rows(file: ReadOnlyFile, offset: int, shape: tuple[int, ...], dtype: type[np.generic]) -> Rows:
    """The rows of a tensor that lies in a file from byte ``offset`` on."""
    return partial(_rows, file, offset, shape[-1] if shape else 1, dtype)


def _rows(file: ReadOnlyFile, offset: int, row: int, dtype: type[np.generic], start: int, stop: int) -> NDArray[Any]:
    values = file.read(offset + start * row * np.dtype(dtype).itemsize, (stop - start) * row, dtype)
    return values.reshape(stop - start, row)


def _looked_up(table: NDArray[np.float32], codes: Rows, start: int, stop: int) -> NDArray[np.float32]:
    return table[codes(start, stop)]


def _damaged(path: Path, what: str) -> ModelRefused:
    return ModelRefused(f"{path} {what}", next_step="fetch or save it again")
