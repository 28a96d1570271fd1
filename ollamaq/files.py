"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ollamaq.errors import ModelRefused, ToolchainError

BLOCK = 4 << 20


@dataclass(frozen=True)
class Blob:
    """A file with its SHA-256 (hex) and its size in bytes."""

    path: Path
    sha256: str
    size: int


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
        found = os.fstat(self._file)
        if stat.S_ISDIR(found.st_mode):
            raise ModelRefused(f"{path} is a directory, not a file", next_step="name the file in it")
        self.path = path
        self.size = found.st_size

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


@dataclass(frozen=True)
class NewFile:
    """A file being written: its descriptor, the parts that an earlier, interrupted write finished, and a journal."""

    file: int
    done: frozenset[str] = frozenset()
    journal: int | None = None

    def mark(self, part: str) -> None:
        """Remember that a part is finished."""
        if self.journal is not None:
            os.write(self.journal, f"{part}\n".encode())


@contextlib.contextmanager
def new_file(path: Path, size: int = 0, *, resume: str | None = None) -> Iterator[NewFile]:
    """A new file of ``size`` zero bytes, renamed to ``path`` on success and removed on any failure.

    ``resume`` names what is written: with it a failure leaves the file, hidden beside ``path``, with a journal of what
    was marked, and the next call of the same name goes on with them.

    Raises:
        ToolchainError: the directory cannot be written, the disk has no room for ``size`` bytes, or another process
            is writing the file to be resumed.
    """
    temporary = path.with_name(f".{path.name}.{'resume' if resume else os.getpid()}.partial")
    journal_path = path.with_name(f".{path.name}.resume.journal")
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            stack.callback(os.close, file)
            new = NewFile(file)
            if resume:
                _lock(file, path)
                new = _resumed(new, journal_path, resume, size, stack)
            else:
                stack.callback(temporary.unlink, missing_ok=True)
            if not new.done:
                os.ftruncate(file, 0)
                check_space(path.parent, size)
                os.ftruncate(file, size)
            yield new
            os.replace(temporary, path)
            if resume:
                journal_path.unlink()
        except OSError as error:
            raise _cannot_write(path, error) from error


@contextlib.contextmanager
def new_files(directory: Path, names: Sequence[str], *, resume: str | None = None) -> Iterator[Path]:
    """A hidden directory for files that are moved to ``directory`` when all of them are whole, and removed otherwise.

    ``resume`` names what is written: with it, a failure leaves them for the next call of the same name.

    Raises:
        ToolchainError: they cannot be written.
    """
    hidden = directory / f".{names[0]}.{'resume' if resume else os.getpid()}.partial"
    journal = hidden / "journal"
    key = hashlib.sha256((resume or "").encode()).hexdigest()
    try:
        if not journal.exists() or journal.read_text() != key:
            shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir(parents=True, exist_ok=True)
        journal.write_text(key)
        yield hidden
        for name in names:
            os.replace(hidden / name, directory / name)
    except BaseException as error:
        if not resume:
            shutil.rmtree(hidden, ignore_errors=True)
        if isinstance(error, OSError):
            raise _cannot_write(directory / names[0], error) from error
        raise
    shutil.rmtree(hidden, ignore_errors=True)


def _lock(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ToolchainError(f"{path} is being written by another process", next_step="wait for it to end") from error


def _resumed(new: NewFile, path: Path, resume: str, size: int, stack: contextlib.ExitStack) -> NewFile:
    """The file with what its journal says, if that is of the same name; else with an empty journal."""
    journal = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    stack.callback(os.close, journal)
    name, *done = path.read_text().rpartition("\n")[0].split("\n")
    if name == resume and os.fstat(new.file).st_size == size:
        return NewFile(new.file, frozenset(done), journal)
    os.ftruncate(journal, 0)
    os.write(journal, f"{resume}\n".encode())
    return NewFile(new.file, frozenset(), journal)


def user_cache() -> Path:
    """The user's cache directory for ollamaq, which may not be there yet."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "ollamaq"


def own_name(path: Path) -> str:
    """What a path is called: its last part, that of a link and not of what it leads to.

    A snapshot in Hugging Face's cache (``models--org--name/snapshots/<commit>``) has its repository's name.
    """
    path = Path(os.path.abspath(path))
    repository = path.parent.parent.name
    if path.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.rpartition("--")[2]
    return path.name


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, or nothing."""
    with new_file(path) as new:
        data = text.encode()
        while data:
            data = data[os.write(new.file, data) :]


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
