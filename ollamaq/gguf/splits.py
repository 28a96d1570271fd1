"""A model in several files, ``name-00001-of-00003.gguf`` and so on: read as one, or written.

The first part has the metadata; every part says which one it is. The format is that of llama.cpp's
``tools/gguf-split``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

from gguf import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGUFValueType

from ollamaq.errors import ModelRefused, UsageError
from ollamaq.files import new_files
from ollamaq.gguf.model import Metadata, Model, Value
from ollamaq.gguf.reader import read_gguf
from ollamaq.gguf.writer import aligned, layout, write
from ollamaq.tensors import Tensor

NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"
MAX_PARTS = (1 << 16) - 1


def part_name(prefix: str, number: int, count: int) -> str:
    """The file name of part ``number``, counted from 0."""
    return f"{prefix}-{number + 1:05}-of-{count:05}.gguf"


def read_parts(path: Path) -> dict[Path, Model]:
    """All the parts of the model of which ``path`` is one, in their order; a file of its own is the only part.

    Raises:
        ModelRefused: a part is missing or damaged, or they do not belong together.
    """
    model = read_gguf(path)
    count = _integer(path, model, COUNT) if COUNT in model.metadata else 1
    if count <= 1:
        return {path: model}
    number = _integer(path, model, NUMBER)
    ending = part_name("", number, count)
    prefix = path.name.removesuffix(ending)
    if prefix in ("", path.name):
        raise ModelRefused(
            f"{path} is part {number + 1} of {count}, and its name does not end in {ending!r}",
            next_step="give all the parts the names that they had",
        )
    parts = {}
    for i in range(count):
        part = path.with_name(part_name(prefix, i, count))
        if not part.exists():
            raise ModelRefused(f"{part} is missing, one of {count} parts", next_step="fetch all the parts")
        parts[part] = read_gguf(part)
        if (_integer(part, parts[part], NUMBER), _integer(part, parts[part], COUNT)) != (i, count):
            raise ModelRefused(f"{part} is not the part that its name says", next_step="fetch all the parts again")
    _check(path, parts)
    return parts


def join(parts: Iterable[Model]) -> Model:
    """One model of all its parts, which says nothing of them any more."""
    first, *others = parts
    tensors = first.tensors + tuple(tensor for part in others for tensor in part.tensors)
    return Model(_whole(first.metadata), tensors)


def split(model: Model, max_bytes: int) -> list[Model]:
    """Parts of at most ``max_bytes`` of tensors; one that is larger has a part of its own.

    Raises:
        UsageError: that makes more parts than can be counted.
    """
    groups: list[list[Tensor]] = [[]]
    size = 0
    for tensor in model.tensors:
        block, block_bytes = GGML_QUANT_SIZES[tensor.type]
        n_bytes = aligned(math.prod(tensor.shape) // block * block_bytes, GGUF_DEFAULT_ALIGNMENT)
        if groups[-1] and size + n_bytes > max_bytes:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += n_bytes
    if len(groups) > MAX_PARTS:
        raise UsageError(f"{len(groups)} parts are too many", next_step="allow larger ones")
    facts = ((TENSORS, GGUFValueType.INT32, len(model.tensors)), (COUNT, GGUFValueType.UINT16, len(groups)))
    parts = []
    for i, group in enumerate(groups):
        metadata = _whole(model.metadata) if i == 0 else {}
        own = ((NUMBER, GGUFValueType.UINT16, i), *facts)
        parts.append(Model(metadata | {key: Value(type_, value) for key, type_, value in own}, tuple(group)))
    return parts


def file_size(model: Model) -> int:
    """Bytes of the file that a model makes."""
    return layout(model.metadata, [(tensor.name, tensor.shape, tensor.type) for tensor in model.tensors]).total_size


def write_parts(
    prefix: Path, parts: list[Model], progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Path]:
    """Write parts to ``prefix-00001-of-…`` and return their paths; they appear when all of them are whole.

    Raises:
        ToolchainError: they cannot be written.
    """
    names = [part_name(prefix.name, i, len(parts)) for i in range(len(parts))]
    total = sum(file_size(part) for part in parts)
    written = 0

    def tell(done: int, size: int) -> None:
        progress(written + done, total)

    with new_files(prefix.parent, names) as hidden:
        for name, part in zip(names, parts, strict=True):
            written += write(hidden / name, part, tell)
    return [prefix.with_name(name) for name in names]


def _whole(metadata: Metadata) -> Metadata:
    return {key: value for key, value in metadata.items() if key not in (NUMBER, COUNT, TENSORS)}


def _integer(path: Path, model: Model, key: str) -> int:
    value = model.metadata.get(key)
    if value is None or type(value.value) is not int:
        raise ModelRefused(f"{path} is part of a split model, but has no number in {key!r}", next_step="fetch it again")
    return value.value


def _check(path: Path, parts: dict[Path, Model]) -> None:
    seen: dict[str, Path] = {}
    for part, model in parts.items():
        for tensor in model.tensors:
            if tensor.name in seen:
                raise ModelRefused(
                    f"tensor {tensor.name!r} is in {seen[tensor.name]} and in {part.name}",
                    next_step="fetch all the parts again",
                )
            seen[tensor.name] = part
    first, model = next(iter(parts.items()))
    if (expected := _integer(first, model, TENSORS)) != len(seen):
        raise ModelRefused(
            f"{first} promises {expected} tensors, and all the parts have {len(seen)}",
            next_step="fetch all the parts again",
        )
