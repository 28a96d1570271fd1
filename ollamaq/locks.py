"""Locks among the processes of this machine; a process that dies lets go of its own, and leaves a note."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ollamaq.errors import ToolchainError
from ollamaq.files import user_cache

MAX_NOTE = 8192


@dataclass(frozen=True)
class Lock:
    """A lock that is held, with what its holder before has not finished."""

    file: int

    @property
    def note(self) -> str:
        """What is begun; empty where nothing is."""
        return os.pread(self.file, MAX_NOTE, 0).decode(errors="replace")

    def write(self, note: str) -> None:
        """Tell whoever holds the lock next what is begun, should it never be finished."""
        os.ftruncate(self.file, 0)
        os.pwrite(self.file, note.encode(), 0)


@contextlib.contextmanager
def locked(what: str, *, waiting: Callable[[], None] = lambda: None) -> Iterator[Lock]:
    """Hold the lock of that name (``flock``); ``waiting`` is called once if another process has it.

    Raises:
        ToolchainError: no directory for locks can be written.
    """
    file = _open(hashlib.sha256(what.encode()).hexdigest())
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield Lock(file)
    finally:
        os.close(file)


def abandoned() -> Iterator[Lock]:
    """Each lock whose holder ended before it had finished what its note tells; it is held until the next is asked for.

    Whoever holds one is at work: it is passed over, and not waited for.
    """
    for place in _places():
        for path in sorted(place.glob("*")) if _is_ours(place) else ():
            with contextlib.ExitStack() as stack:
                try:
                    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                    stack.callback(os.close, file)
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue
                if (lock := Lock(file)).note:
                    yield lock


def _places() -> tuple[Path, Path]:
    return user_cache() / "locks", Path(tempfile.gettempdir()) / f"ollamaq-{os.getuid()}"


def _is_ours(place: Path) -> bool:
    try:
        return place.stat().st_uid == os.getuid()
    except OSError:
        return False


def _open(name: str) -> int:
    for place in _places():
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_ours(place):
                raise PermissionError(errno.EPERM, "it is somebody else's", str(place))
            return os.open(place / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            problem = error
    raise ToolchainError(
        f"cannot lock anything in {' or '.join(map(str, _places()))}: {problem.strerror}",
        next_step="set XDG_CACHE_HOME to a directory of yours",
    )
