"""Writes a plan to a file: rows stream from the source through the kernels, in threads, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ollamaq.errors import ModelRefused
from ollamaq.files import new_file
from ollamaq.gguf.writer import layout
from ollamaq.quantize import kernels
from ollamaq.quantize.kernels import Outcome
from ollamaq.quantize.plan import FLOATS, Plan, PlannedTensor
from ollamaq.tensors import to_float32

Progress = Callable[[int, int], None]
"""``progress(done, total)``, in bytes of the output."""

CHUNK = 1 << 20
"""Values a task converts at once: large beside the cost of a task, small in memory (some 5 bytes a value)."""


def default_threads() -> int:
    """As many as this process has processors."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_plan(
    path: Path, plan: Plan, *, threads: int | None = None, progress: Progress = lambda done, total: None
) -> int:
    """Write a planned model as a GGUF file and return the file's size.

    The bytes do not depend on ``threads``. The file appears under its name when it is complete; whatever happens
    before that leaves nothing.

    Raises:
        ModelRefused: a weight is not finite, or so large that its block's scale is not.
        ToolchainError: the disk has no room for the file.
    """
    threads = threads or default_threads()
    infos = [(planned.tensor.name, _dimensions(planned.tensor.shape), planned.type) for planned in plan.tensors]
    place = layout(plan.metadata, infos)
    with new_file(path, place.total_size) as file, ThreadPoolExecutor(threads) as pool:
        os.pwrite(file, place.header, 0)
        running: set[Future[int]] = set()
        written = 0
        try:
            for chunk in _chunks(plan, place.offsets):
                running.add(pool.submit(chunk.write, file))
                if len(running) >= 2 * threads:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    written += sum(future.result() for future in done)
                    progress(written, plan.n_bytes)
            for future in running:
                written += future.result()
                progress(written, plan.n_bytes)
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

    __slots__ = ("offset", "planned", "start", "stop")

    def __init__(self, planned: PlannedTensor, start: int, stop: int, offset: int) -> None:
        self.planned, self.start, self.stop, self.offset = planned, start, stop, offset

    def write(self, file: int) -> int:
        tensor, type_ = self.planned.tensor, self.planned.type
        stored = tensor.rows(self.start, self.stop)
        if tensor.type in FLOATS:
            out = np.empty((len(stored), kernels.row_bytes(type_, tensor.row)), np.uint8)
            outcome = kernels.quantize(tensor.type, stored, type_, out)
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


def _chunks(plan: Plan, offsets: list[int]) -> Iterator[_Chunk]:
    for planned, offset in zip(plan.tensors, offsets, strict=True):
        tensor = planned.tensor
        step = max(1, CHUNK // tensor.row)
        row_bytes = kernels.row_bytes(planned.type, tensor.row)
        for start in range(0, tensor.n_rows, step):
            yield _Chunk(planned, start, min(start + step, tensor.n_rows), offset + start * row_bytes)
