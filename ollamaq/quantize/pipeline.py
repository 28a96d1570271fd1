"""Writes a plan to a file: rows stream from the source through the kernels, in threads, in bounded memory."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ollamaq.errors import ModelRefused
from ollamaq.files import new_file
from ollamaq.gguf.writer import layout
from ollamaq.quantize import kernels
from ollamaq.quantize.dequantize import FLOATS, as_floats
from ollamaq.quantize.kernels import Outcome
from ollamaq.quantize.plan import Plan, PlannedTensor
from ollamaq.tensors import to_float32

Progress = Callable[[int, int], None]
"""``progress(done, total)``, in bytes of the output."""

CHUNK = 1 << 20
"""Values a task converts at once: large beside the cost of a task, small in memory."""
BYTES_PER_VALUE = 8
"""What a value takes while it is converted, at most: as it is read, and as it is written."""
MAX_MEMORY = 1 << 30


def default_threads() -> int:
    """As many as this process has processors."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_plan(
    path: Path,
    plan: Plan,
    *,
    threads: int | None = None,
    max_memory: int = MAX_MEMORY,
    resume: str | None = None,
    progress: Progress = lambda done, total: None,
) -> int:
    """Write a planned model as a GGUF file and return the file's size.

    The bytes do not depend on ``threads`` and ``max_memory``. The file appears under its name when it is complete.

    Args:
        path: the file to write.
        plan: what to write.
        threads: how many convert at a time; by default one for each processor.
        max_memory: bytes that what is being converted may take.
        resume: what tells this input from others. With it, an interrupted write leaves what it has beside ``path``, and
            the next one with the same plan goes on from there; without it, nothing is left.
        progress: is told ``(done, total)``, in bytes of the output.

    Raises:
        ModelRefused: a weight is not finite, or so large that its block's scale is not.
        ToolchainError: the disk has no room for the file.
    """
    threads = threads or default_threads()
    infos = [(planned.tensor.name, _dimensions(planned.tensor.shape), planned.type) for planned in plan.tensors]
    place = layout(plan.metadata, infos)
    key = resume and hashlib.sha256(resume.encode() + place.header).hexdigest()
    with new_file(path, place.total_size, resume=key) as target, ThreadPoolExecutor(threads) as pool:
        os.pwrite(target.file, place.header, 0)
        values = max_memory // (2 * threads * BYTES_PER_VALUE)
        chunks = [chunk for chunk in _chunks(plan, place.offsets, min(CHUNK, values)) if chunk.name not in target.done]
        left = Counter(chunk.name for chunk in chunks)
        written = plan.n_bytes - sum(planned.n_bytes for planned in plan.tensors if planned.tensor.name in left)
        running: dict[Future[int], _Chunk] = {}

        def collect(when: str) -> None:
            nonlocal written
            for future in wait(running, return_when=when).done:
                written += future.result()
                name = running.pop(future).name
                left[name] -= 1
                if not left[name]:
                    target.mark(name)
                progress(written, plan.n_bytes)

        try:
            for chunk in chunks:
                running[pool.submit(chunk.write, target.file)] = chunk
                if len(running) >= 2 * threads:
                    collect(FIRST_COMPLETED)
            collect(ALL_COMPLETED)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return place.total_size


def _dimensions(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the leading ones, which llama.cpp does not count."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape


class _Chunk:
    """Rows ``[start, stop)`` of a planned tensor, on their way to ``offset`` in the file."""

    __slots__ = ("name", "offset", "planned", "rows_of_matrix", "start", "stop")

    def __init__(self, planned: PlannedTensor, start: int, stop: int, offset: int) -> None:
        self.name = planned.tensor.name
        self.rows_of_matrix = _rows_of_matrix(planned)
        self.planned, self.start, self.stop, self.offset = planned, start, stop, offset

    def write(self, file: int) -> int:
        tensor, type_ = self.planned.tensor, self.planned.type
        if tensor.type not in FLOATS and tensor.type is not type_:
            tensor = as_floats(tensor)
        stored = tensor.rows(self.start, self.stop)
        if tensor.type in FLOATS:
            out = np.empty((len(stored), kernels.row_bytes(type_, tensor.row)), np.uint8)
            weights = self.planned.weights and self.planned.weights(self.start // self.rows_of_matrix)
            outcome = kernels.quantize(tensor.type, stored, type_, out, weights)
            if outcome is not Outcome.DONE:
                raise self._refusal(outcome, stored)
        else:
            out = np.ascontiguousarray(stored)
        data = out.reshape(-1).data
        written = 0
        while written < len(data):
            written += os.pwrite(file, data[written:], self.offset + written)
        return written

    def _refusal(self, outcome: Outcome, stored: NDArray[Any]) -> ModelRefused:
        name, type_ = self.planned.tensor.name, self.planned.type
        if outcome is Outcome.OVERFLOW:
            return ModelRefused(
                f"tensor {name!r} has values too large for {type_.name}, in rows {self.start} to {self.stop}",
                next_step="choose a type with more range, such as BF16",
            )
        values = to_float32(stored)
        row, column = np.argwhere(~np.isfinite(values))[0]
        return ModelRefused(
            f"tensor {name!r} has {values[row, column]} at row {self.start + row}, column {column}",
            next_step="training has diverged there: publish an earlier checkpoint",
        )


def _rows_of_matrix(planned: PlannedTensor) -> int:
    """Rows that share importance weights: those of one expert, or all."""
    tensor = planned.tensor
    return tensor.shape[-2] if planned.weights and len(tensor.shape) > 2 else tensor.n_rows


def _chunks(plan: Plan, offsets: list[int], values: int) -> Iterator[_Chunk]:
    """Rows in the order of the file; no chunk reaches from one expert into the next."""
    for planned, offset in zip(plan.tensors, offsets, strict=True):
        tensor, rows_of_matrix = planned.tensor, _rows_of_matrix(planned)
        step = max(1, values // tensor.row)
        row_bytes = kernels.row_bytes(planned.type, tensor.row)
        for first in range(0, tensor.n_rows, rows_of_matrix):
            last = first + rows_of_matrix
            for start in range(first, last, step):
                yield _Chunk(planned, start, min(start + step, last), offset + start * row_bytes)
