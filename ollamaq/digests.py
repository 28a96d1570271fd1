"""SHA-256 of big files, computed once: remembered by path, size, time of change and inode in the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from ollamaq.errors import ModelRefused
from ollamaq.files import sha256_of, user_cache, write_text

TICK_SECONDS = 0.02
"""More than the clock of a local file system's times steps by: two writes in one step cannot be told apart."""
MAX_ENTRY = 4096


def digest_of(path: Path, progress: Callable[[int], None] = lambda count: None) -> str:
    """SHA-256 of a file in hex, which is read only where it has changed since it was asked for last.

    ``progress`` is told the bytes of each block read, or all of them at once where they are known already.

    Raises:
        ModelRefused: the file cannot be read, or changes meanwhile.
    """
    path = path.resolve()
    try:
        seen = _signature(path)
        entry = user_cache() / "digests" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()}.json"
        known = _remembered(entry, seen)
        if known:
            progress(path.stat().st_size)
            return known
        _let_the_clock_tick(path)
        seen = _signature(path)
        digest = sha256_of(path, progress)
        if _signature(path) != seen:
            raise ModelRefused(f"{path} changed while it was read", next_step="wait until it is written")
    except OSError as error:
        raise ModelRefused(f"cannot read {path}: {error.strerror}", next_step="check the path") from error
    with contextlib.suppress(Exception):  # a cache that cannot be written costs time, nothing else
        write_text(entry, json.dumps({"file": seen, "sha256": digest}))
    return digest


def _signature(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_dev, found.st_ino]


def _remembered(entry: Path, seen: list[int]) -> str | None:
    try:
        with entry.open("rb") as file:
            told = json.loads(file.read(MAX_ENTRY))
        digest = told["sha256"] if told["file"] == seen else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return digest if isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) else None


def _let_the_clock_tick(path: Path) -> None:
    """Wait where the file has changed just now: another change in the same step of its clock would not show.

    A file of the future may have changed now, too: its file server's clock is ahead of ours.
    """
    age = time.time() - path.stat().st_mtime
    if age < TICK_SECONDS:
        time.sleep(min(TICK_SECONDS, TICK_SECONDS - age))
