"""One blob fetched from a registry or out of a bundle: verified, and gone on with where it broke off (``Range``)."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ollamaq.errors import ModelRefused, ServerError, ToolchainError
from ollamaq.files import check_space
from ollamaq.ollama import Progress
from ollamaq.ollama.contents import BLOCK, Part
from ollamaq.registry.session import RETRY_SECONDS, RegistryGone, Session


def fetch_blob(session: Session, blob: Part, directory: Path, progress: Progress) -> Part:
    """The blob as a file in ``directory``. What an interrupted fetch left there is not fetched again.

    Raises:
        ServerError: the registry refuses, is gone after several tries, or sends something else.
        ToolchainError: the file cannot be written, or the disk is full.
    """
    path = directory / blob.digest.replace(":", "-")
    if path.is_file() and path.stat().st_size == blob.size:  # it has its name since it was verified
        return replace(blob, path=path)
    partial = path.with_name(f"{path.name}.partial")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with partial.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            check_space(directory, blob.size - os.fstat(file.fileno()).st_size)
            digest = _Download(session, blob, file.fileno(), progress).run()
        if f"sha256:{digest}" != blob.digest:
            partial.unlink()
            raise ServerError(
                f"{session.reference.host} sends another {blob.kind} of {session.reference} than {blob.digest}",
                next_step="ask its operator; nothing of it was used",
            )
        os.replace(partial, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return replace(blob, path=path)


def extract_blob(blob: Part, directory: Path, progress: Progress) -> Part:
    """The same out of a bundle.

    Raises:
        ModelRefused: the bundle is damaged.
        ToolchainError: the file cannot be written, or the disk is full.
    """
    path = directory / blob.digest.replace(":", "-")
    partial, digest, done = path.with_name(f"{path.name}.{os.getpid()}.partial"), hashlib.sha256(), 0
    try:
        directory.mkdir(parents=True, exist_ok=True)
        check_space(directory, blob.size)
        try:
            with partial.open("wb", buffering=0) as file:
                for block in blob.blocks():
                    _write(file.fileno(), block)
                    digest.update(block)
                    progress(f"reading {blob.kind}", done := done + len(block), blob.size)
            if f"sha256:{digest.hexdigest()}" != blob.digest:
                raise ModelRefused(
                    f"{blob.path} is damaged: its {blob.kind} is not {blob.digest}", next_step="fetch the bundle again"
                )
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return replace(blob, path=path, offset=0)


class _Download:
    def __init__(self, session: Session, blob: Part, file: int, progress: Progress) -> None:
        self._session, self._blob, self._file, self._progress = session, blob, file, progress
        self._digest, self._done = hashlib.sha256(), 0

    def run(self) -> str:
        """Fetch what is missing. The hex SHA-256 of the whole."""
        self._take_up()
        pauses, furthest = iter(RETRY_SECONDS), -1
        while self._done < self._blob.size:
            try:
                self._fetch()
            except RegistryGone:
                if self._done > furthest:
                    pauses, furthest = iter(RETRY_SECONDS), self._done
                if (pause := next(pauses, None)) is None:
                    raise
                self._session.wait(pause)
        return self._digest.hexdigest()

    def _take_up(self) -> None:
        if os.fstat(self._file).st_size > self._blob.size:
            self._start_over()
        while block := os.pread(self._file, BLOCK, self._done):
            self._session.wait(0)
            self._digest.update(block)
            self._done += len(block)

    def _start_over(self) -> None:
        os.ftruncate(self._file, 0)
        self._digest, self._done = hashlib.sha256(), 0

    def _fetch(self) -> None:
        url = f"{self._session.repository_url}/blobs/{self._blob.digest}"
        headers = {"Range": f"bytes={self._done}-"} if self._done else {}
        with self._session.open("GET", url, headers=headers) as response:
            match response.status_code:
                case 206 if re.match(rf"bytes {self._done}-", response.headers.get("Content-Range", "")):
                    pass
                case 200 | 206 | 416 if self._done:  # it cannot give a part of it
                    self._start_over()
                    if response.status_code != 200:
                        return
                case 200:
                    pass
                case status if status in (429, 500, 502, 503, 504):
                    raise RegistryGone(
                        f"{self._session.reference.host} cannot send {self._blob.digest} now ({status})",
                        next_step="try again later",
                    )
                case status:
                    raise ServerError(
                        f"{self._session.reference.host} does not send {self._blob.digest} ({status})",
                        next_step="push the model again: the registry has lost a part of it",
                    )
            self._receive(response.iter_raw())
        if self._done < self._blob.size:
            raise RegistryGone(
                f"{self._session.reference.host} ends {self._blob.digest} early", next_step="ask its operator"
            )

    def _receive(self, blocks: Iterator[bytes]) -> None:
        for block in blocks:
            self._session.wait(0)
            if self._done + len(block) > self._blob.size:
                raise ServerError(
                    f"{self._session.reference.host} sends more than {self._blob.size} bytes of {self._blob.digest}",
                    next_step="ask its operator; nothing of it was used",
                )
            _write(self._file, block)
            self._digest.update(block)
            self._done += len(block)
            self._progress(f"fetching {self._blob.kind}", self._done, self._blob.size)


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _cannot_write(path: Path, error: OSError) -> ToolchainError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    step = "free some space, and run it again: it goes on" if full else "see who owns that directory"
    return ToolchainError(f"cannot write {path}: {error.strerror}", next_step=step)
