"""What an interrupted transfer leaves for the next one, in the user's cache: where an upload went on, and by whom.

There is a file for each blob of a repository, locked while a process sends that blob: a second one waits, and then
finds the blob in the registry. Another file remembers in which repositories of a registry a blob was seen, to mount it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ollamaq.files import user_cache, write_text

MAX_STATE = 1 << 20
POLL_SECONDS = 0.2
MAX_ORIGINS = 8
"""Repositories remembered for a blob."""


class UploadState:
    """The upload of one blob: the URL at which the registry takes more of it, or None."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> str | None:
        """Where an earlier, interrupted upload goes on."""
        told = _load(self._path).get("location")
        return told if isinstance(told, str) else None

    def save(self, location: str) -> None:
        """Remember where this upload goes on. A cache that cannot be written costs no more than resuming."""
        with contextlib.suppress(Exception):
            write_text(self._path, json.dumps({"location": location}))

    def clear(self) -> None:
        """There is nothing to resume any more."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def upload_state(base: str, repository: str, digest: str, wait: Callable[[float], None]) -> Iterator[UploadState]:
    """The state of a blob's upload, which is ours until the end of the block; ``wait`` sleeps while it is not."""
    path = _place("uploads", base, repository, digest)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # without a cache nobody can wait, or resume
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            while (lock := _lock(path.with_suffix(".lock"))) is None:
                wait(POLL_SECONDS)
            stack.callback(os.close, lock)
            stack.callback(path.with_suffix(".lock").unlink, missing_ok=True)
        yield UploadState(path)


def _lock(path: Path) -> int | None:
    """A lock that ends with this process, whatever ends it; None while another one has it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), path.stat()):  # else its last owner has removed it meanwhile
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None


def origins(base: str, digest: str) -> list[str]:
    """Repositories of a registry in which a blob was seen, the latest first."""
    told = _load(_place("origins", base, digest)).get("repositories")
    return [name for name in told if isinstance(name, str)][:MAX_ORIGINS] if isinstance(told, list) else []


def remember_origin(base: str, digest: str, repository: str) -> None:
    """Keep that a repository has a blob."""
    known = origins(base, digest)
    if known[:1] != [repository]:
        repositories = [repository, *(name for name in known if name != repository)][:MAX_ORIGINS]
        with contextlib.suppress(Exception):
            write_text(_place("origins", base, digest), json.dumps({"repositories": repositories}))


def _place(kind: str, *key: str) -> Path:
    return user_cache() / "registry" / kind / f"{hashlib.sha256(chr(10).join(key).encode()).hexdigest()}.json"


def _load(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            told = json.loads(file.read(MAX_STATE))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
