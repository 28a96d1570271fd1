"""``pytorch_model.bin``: a zip of storages, and a pickle that says which tensors they hold. It is not unpickled.

Format: ``torch/serialization.py`` and ``torch/_utils.py`` of PyTorch.
"""

from __future__ import annotations

import io
import itertools
import reprlib
import struct
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ollamaq.checkpoint.pickle_machine import Forbidden, run
from ollamaq.checkpoint.safetensors import DTYPES, MAX_AXES, stored_rows
from ollamaq.errors import ModelRefused
from ollamaq.files import ReadOnlyFile
from ollamaq.tensors import Tensor

SAFER = "convert to safetensors, if you trust it: model.save_pretrained(..., safe_serialization=True)"
MAX_PICKLE = 100_000_000
MAX_DIRECTORY = 100_000_000
"""Of a zip's names and places, in bytes."""
ZIP = b"PK\x03\x04"
LOCAL_HEADER = 30
ENCRYPTED = 1
DAMAGED = (
    *(zipfile.BadZipFile, struct.error, EOFError, OSError, NotImplementedError),
    *(LookupError, TypeError, ValueError, ArithmeticError),
)
"""What ``zipfile`` and ``pickletools`` raise."""


@dataclass(frozen=True)
class Storage:
    """Values of a dtype (by safetensors' name), one after the other in the file."""

    dtype: str
    offset: int
    count: int


@dataclass(frozen=True)
class View:
    """A part of a storage, seen as a tensor."""

    storage: Storage
    first: int
    shape: tuple[int, ...]


def _state_dict(*items: Any) -> dict[str, Any]:
    if items:
        raise Forbidden(f"it has a dict of {reprlib.repr(items)}")
    return {}


def _view(storage: Any, first: Any, shape: Any, strides: Any, *_: Any) -> View:
    """A tensor whose values lie in their order, as those of a saved parameter do."""
    axes = (shape, strides)
    if not isinstance(storage, Storage) or not all(isinstance(axis, tuple) and len(axis) <= MAX_AXES for axis in axes):
        raise Forbidden(f"it has a tensor of {reprlib.repr((storage, *axes))}")
    if not all(isinstance(n, int) and 0 < n <= storage.count for n in shape) or not isinstance(first, int):
        raise ValueError(f"a tensor of shape {reprlib.repr(shape)} in a storage of {storage.count} values")
    *steps, size = itertools.accumulate(shape[::-1], lambda a, b: a * b, initial=1)
    if not 0 <= first <= storage.count - size:
        raise ValueError(f"a tensor of shape {shape} at value {reprlib.repr(first)} of {storage.count}")
    if any(n > 1 and step != due for n, step, due in zip(shape, strides, steps[::-1], strict=True)):
        raise Forbidden(f"it has a tensor of shape {shape} with strides {reprlib.repr(strides)}")
    return View(storage, first, shape)


def _parameter(view: Any, *_: Any) -> Any:
    return view


NAMES = {
    "collections OrderedDict": _state_dict,
    "torch._utils _rebuild_tensor_v2": _view,
    "torch._utils _rebuild_parameter": _parameter,
    "torch FloatStorage": "F32",
    "torch HalfStorage": "F16",
    "torch BFloat16Storage": "BF16",
    "torch CharStorage": "I8",
    "torch ByteStorage": "U8",
    "torch BoolStorage": "BOOL",
    "torch ShortStorage": "I16",
    "torch IntStorage": "I32",
    "torch LongStorage": "I64",
}
"""All that the pickle may ask for; storages stand for what they hold, as safetensors calls it."""


def read_pickled(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, in its order; their rows are read when asked for.

    Raises:
        ModelRefused: the file is damaged, older than PyTorch 1.6, or its pickle is more than a dict of tensors.
    """
    file = ReadOnlyFile(path)
    if file.size < LOCAL_HEADER or file.read(0, len(ZIP)).tobytes() != ZIP:
        raise ModelRefused(f"{path} is no zip file, which torch.save writes since PyTorch 1.6", next_step=SAFER)
    try:
        members = _members(path)
        offset, size = _place(file, members["data.pkl"])
        if size > MAX_PICKLE:
            raise Forbidden(f"its pickle has {size:,} bytes")
        if "byteorder" in members and (order := _text(file, members["byteorder"])) != b"little":
            raise Forbidden(f"its byte order is {order!r}")
        found = run(file.read(offset, size).tobytes(), NAMES, partial(_storage, file, members))
        if not isinstance(found, dict) or not found:
            raise Forbidden(f"it holds {reprlib.repr(found)}")
        return {name: _tensor(file, name, view) for name, view in found.items()}
    except Forbidden as error:
        raise ModelRefused(f"{path} is more than a dict of tensors: {error}", next_step=SAFER) from error
    except DAMAGED as error:
        said = " ".join(str(error)[:200].split())
        raise ModelRefused(f"{path} is damaged: {said}", next_step="fetch or save it again") from error


class _Bounded(io.FileIO):
    """A file of which no more is read at once than a zip's directory may have; asked for the rest, it gives so much."""

    def read(self, size: int | None = -1, /) -> bytes:
        size = MAX_DIRECTORY if size is None or size < 0 else size
        if size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"its directory has {size:,} bytes")
        return super().read(size)


def _members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The zip's files by name, without the folder that all of them are in."""
    with _Bounded(path) as file, zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
    pickles = [info.filename for info in infos if info.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise zipfile.BadZipFile(f"it has {len(pickles)} files data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    members = {info.filename.removeprefix(folder): info for info in infos}
    if len(members) != len(infos):
        raise zipfile.BadZipFile("it has two files of one name")
    return members


def _place(file: ReadOnlyFile, member: zipfile.ZipInfo) -> tuple[int, int]:
    """Offset and length of a member's bytes, which ``torch.save`` does not compress."""
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & ENCRYPTED:
        raise zipfile.BadZipFile(f"{member.filename[:80]!r} in it is compressed or encrypted")
    header = file.read(max(member.header_offset, 0), LOCAL_HEADER)
    if header[: len(ZIP)].tobytes() != ZIP:
        raise zipfile.BadZipFile(f"{member.filename[:80]!r} is not where its directory has it")
    offset = member.header_offset + LOCAL_HEADER + int(header[26:].view("<u2").sum())
    if offset + member.file_size > file.size:
        raise zipfile.BadZipFile(f"{member.filename[:80]!r} goes on after its end")
    return offset, member.file_size


def _text(file: ReadOnlyFile, member: zipfile.ZipInfo) -> bytes:
    offset, size = _place(file, member)
    return file.read(offset, min(size, 20)).tobytes()


def _storage(file: ReadOnlyFile, members: dict[str, zipfile.ZipInfo], key: Any) -> Storage:
    """What a persistent id stands for: ``("storage", its class, its file, its device, its number of values)``."""
    match key:
        case ("storage", str(dtype), str(name), str(), int(count)) if dtype in NAMES.values():
            offset, size = _place(file, members[f"data/{name}"])
        case _:
            raise Forbidden(f"it has the storage {reprlib.repr(key)}")
    if size != count * np.dtype(DTYPES[dtype][1]).itemsize:
        raise ValueError(f"storage {name[:80]!r} has {size} bytes for {reprlib.repr(count)} values of {dtype}")
    return Storage(dtype, offset, count)


def _tensor(file: ReadOnlyFile, name: str, view: Any) -> Tensor:
    if not isinstance(view, View):
        raise Forbidden(f"{reprlib.repr(name)} in it is {reprlib.repr(view)}")
    type_, stored = DTYPES[view.storage.dtype]
    offset = view.storage.offset + view.first * np.dtype(stored).itemsize
    return Tensor(name, type_, view.shape, stored_rows(file, offset, view.shape, stored))
