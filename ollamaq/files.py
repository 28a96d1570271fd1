"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ollamaq.errors import ModelRefused, ToolchainError

BLOCK = 4 << 20


class ReadOnlyFile:
    """A file read at positions, from any thread.

    Not a memory map: a file that is cut short while it is read gives an error instead of killing the process, and the
    pages read do not count as this process's memory.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ModelRefused(
                f"cannot read {path}: {error.strerror}", next_step="check the path and its permissions"
            ) from error
        self.path = path
        self.size = os.fstat(self._file).st_size

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def read(self, offset: int, count: int, dtype: DTypeLike = np.uint8) -> NDArray[Any]:
        """``count`` values of ``dtype`` from byte ``offset`` on.

        Raises:
            ModelRefused: the file ends before them.
        """
        values = np.empty(count, dtype)
        rest = memoryview(values.view(np.uint8).data)
        while rest:
            n_bytes = os.preadv(self._file, [rest], offset)
            if n_bytes == 0:
                raise ModelRefused(
                    f"{self.path} ends at byte {offset}, {len(rest)} bytes early", next_step="fetch it again"
                )
            rest, offset = rest[n_bytes:], offset + n_bytes
        return values


@contextlib.contextmanager
def new_file(path: Path, size: int = 0) -> Iterator[int]:
    """A descriptor of a new file of ``size`` zero bytes, renamed to ``path`` on success and removed on any failure.

    Raises:
        ToolchainError: the directory cannot be written, or the disk has no room for ``size`` bytes.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        check_space(path.parent, size)
        file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        try:
            os.ftruncate(file, size)
            yield file
        finally:
            os.close(file)
        os.replace(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, or nothing."""
    with new_file(path) as file:
        data = text.encode()
        while data:
            data = data[os.write(file, data) :]


def check_space(directory: Path, size: int) -> None:
    """Raise ToolchainError where a directory's disk has no room for ``size`` bytes."""
    free = shutil.disk_usage(directory).free
    if size > free:
        raise ToolchainError(
            f"no room in {directory}: {size / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free",
            next_step="free some space, or write elsewhere with --output",
        )


def sha256_of(path: Path, progress: Callable[[int], None] = lambda count: None) -> str:
    """SHA-256 of a file in hex; ``progress`` is told the bytes of each block read."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
            progress(len(block))
    return digest.hexdigest()


def _cannot_write(path: Path, error: OSError) -> ToolchainError:
    step = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "write elsewhere with --output"
    return ToolchainError(f"cannot write {path}: {error.strerror}", next_step=step)
