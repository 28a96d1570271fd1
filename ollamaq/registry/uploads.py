"""One blob sent to a registry: looked for, mounted from another repository, or uploaded in chunks and gone on with.

Protocol: OCI distribution specification 1.1 ("Pushing blobs"). Where an interrupted upload goes on is asked of the
registry, by GET on the upload's URL. Registries differ in what they remember of a chunk that broke off: distribution 3
goes on in the middle of it, distribution 2 gives up the whole blob, which then starts anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

from ollamaq.errors import ModelRefused, ServerError
from ollamaq.ollama import Progress
from ollamaq.ollama.contents import Part
from ollamaq.registry.session import RETRY_SECONDS, Answer, RegistryGone, Session
from ollamaq.registry.state import UploadState, origins, remember_origin, upload_state

CHUNK = 64 << 20
"""Bytes; below the 100 MB that proxies often allow."""
SMALL = 1 << 20
"""Blobs up to this size go in one request."""
OCTETS = {"Content-Type": "application/octet-stream"}
MAX_REFUSALS = 5
"""Chunks of one blob that may be refused before it is given up."""
FORGOTTEN = (400, 404, 405, 415, 416, 501)
"""Statuses by which a registry does not take a chunk: it has forgotten the upload, or takes no chunks."""


@dataclass(frozen=True)
class SentBlob:
    """What became of a blob: ``there`` before, ``mounted``, ``sent`` or ``resumed``; ``sent`` are bytes of this run."""

    kind: str
    digest: str
    size: int
    how: str
    sent: int = 0


def send_blob(session: Session, blob: Part, *, chunk: int, progress: Progress) -> SentBlob:
    """Make sure that the repository has a blob.

    Raises:
        ServerError: the registry refuses it, or is gone after several tries.
        ModelRefused: the file cannot be read, or has changed since its digest was computed.
    """
    repository = session.reference.repository
    with upload_state(session.base, repository, blob.digest, session.wait) as state:
        if has_blob(session, blob.digest):
            how, sent = "there", 0
        else:
            upload = Upload(session, blob, state, chunk, progress)
            how, sent = upload.run()
        state.clear()
    remember_origin(session.base, blob.digest, repository)
    return SentBlob(blob.kind, blob.digest, blob.size, how, sent)


def has_blob(session: Session, digest: str) -> bool:
    """Whether the repository has a blob."""
    url = f"{session.repository_url}/blobs/{digest}"
    return session.call("HEAD", url, expected=(404,), doing="to look for a blob").status != 404


def check_authority(session: Session) -> None:
    """Find out, before anything is hashed or sent, whether we may push: an upload is begun and cancelled.

    Raises:
        ServerError: we may not, or nobody answers.
    """
    doing = f"a push to {session.reference.repository}"
    begun = session.call("POST", f"{session.repository_url}/blobs/uploads/", doing=doing)
    if location := begun.location():
        session.call("DELETE", location, expected=tuple(range(400, 600)), doing=doing, retry=False)


class Upload:
    """The upload of one blob: ``location`` is where the registry takes what comes after ``offset``."""

    def __init__(self, session: Session, blob: Part, state: UploadState, chunk: int, progress: Progress) -> None:
        self._session, self._blob, self._state = session, blob, state
        self._chunk, self._progress = chunk, progress
        self.location = state.load()
        self.offset = 0
        self.sent = 0
        self._whole = blob.size <= SMALL
        self._resumed = False
        self._refusals = 0

    def run(self) -> tuple[str, int]:
        """Send what the registry lacks. How it went, and the bytes sent.

        Raises:
            RegistryGone: the connection broke each time; what has arrived is not sent again by the next run.
        """
        try:
            return self._run()
        except RegistryGone as error:
            if not self.sent:
                raise
            raise RegistryGone(
                f"{self._session.reference.host} was lost in the middle of {self._blob.kind}: {error}",
                next_step="run it again when the line is sound: it goes on",
            ) from error

    def _run(self) -> tuple[str, int]:
        pauses, furthest = iter(RETRY_SECONDS), -1
        ask = self.location is not None
        while True:
            try:
                if ask:
                    self._ask()
                if self.location is None and self._start():
                    return "mounted", self.sent
                self._send()
                return "resumed" if self._resumed else "sent", self.sent
            except RegistryGone:
                if self.offset > furthest:
                    pauses, furthest = iter(RETRY_SECONDS), self.offset
                if (pause := next(pauses, None)) is None:
                    raise
                self._session.wait(pause)
                if has_blob(self._session, self._blob.digest):  # it arrived, and only the answer was lost
                    return "sent", self.sent
                ask = self.location is not None

    def _ask(self) -> None:
        """Ask how much of it the registry has."""
        assert self.location is not None
        answer = self._session.call("GET", self.location, expected=tuple(range(400, 500)), doing="to resume an upload")
        offset = _offset(answer)
        if answer.status >= 400 or offset is None or offset > self._blob.size or self._whole:
            self._forget()
            return
        self._resumed = self._resumed or offset > 0
        self._advance(answer, offset)

    def _start(self) -> bool:
        """Begin an upload. True where that was not necessary, as the blob could be mounted."""
        known = origins(self._session.base, self._blob.digest)
        others = [name for name in known if name != self._session.reference.repository]
        query = "?" + urlencode({"mount": self._blob.digest, "from": others[0]}) if others else ""
        doing = f"an upload to {self._session.reference.repository}"
        begun = self._session.call("POST", f"{self._session.repository_url}/blobs/uploads/{query}", doing=doing)
        if begun.status == 201:
            return True
        if begun.location() is None:
            raise ServerError(f"{self._session.reference.host} begins an upload nowhere", next_step="see its log")
        least = begun.headers.get("OCI-Chunk-Min-Length", "")
        if least.isdigit() and len(least) < 15:
            self._chunk = max(self._chunk, int(least))
        self._advance(begun, 0)
        return False

    def _send(self) -> None:
        while not self._whole and self.offset < self._blob.size:
            end = min(self.offset + self._chunk, self._blob.size)
            answer = self._request("PATCH", self._location, self.offset, end)
            if answer.status >= 400:
                self._refused(answer)
                continue
            offset = _offset(answer)
            self._advance(answer, end if offset is None or not self.offset <= offset <= end else offset)
        self._finish()

    def _finish(self) -> None:
        join = "&" if "?" in self._location else "?"
        start, end = (0, self._blob.size) if self._whole else (0, 0)
        url = self._location + join + urlencode({"digest": self._blob.digest})
        answer = self._request("PUT", url, start, end)
        if answer.status >= 400:
            if not self._resumed:
                raise self._damaged(answer)
            self._resumed = False  # what an earlier run sent may have been of another file
            self._forget()
            self._start()
            self._send()
            return
        told = answer.headers.get("Docker-Content-Digest", self._blob.digest)
        if told != self._blob.digest:
            raise self._damaged(answer)

    def _request(self, method: str, url: str, start: int, end: int) -> Answer:
        headers = OCTETS | {"Content-Length": str(end - start)}
        if method == "PATCH":
            headers["Content-Range"] = f"{start}-{end - 1}"
        doing = f"{self._blob.kind} ({self._blob.digest})"
        return self._session.call(
            method,
            url,
            body=lambda: self._blocks(start, end),
            headers=headers,
            expected=FORGOTTEN,
            doing=doing,
            retry=False,
        )

    def _blocks(self, start: int, end: int) -> Iterator[bytes]:
        for block in self._blob.blocks(start, end):
            self._session.wait(0)
            yield block
            start += len(block)
            self.sent += len(block)
            self._progress(f"sending {self._blob.kind}", start, self._blob.size)

    def _refused(self, answer: Answer) -> None:
        """A chunk was not taken: ask where to go on, begin anew, or send all of it in one piece."""
        self._refusals += 1
        if self._refusals > MAX_REFUSALS:
            raise self._session.refusal(answer, self._blob.kind)
        if self._resumed or self.offset > 0:
            self._session.wait(RETRY_SECONDS[0])  # what a broken connection left may be on its way to the disk
            self._ask()
        else:
            self._whole = True
            self._forget()
        if self.location is None:
            self._resumed = False
            self._start()

    def _damaged(self, answer: Answer) -> ModelRefused | ServerError:
        if answer.status >= 400 and "digest" not in answer.says().lower():
            return self._session.refusal(answer, f"{self._blob.kind} ({self._blob.digest})")
        return ServerError(
            f"{self._session.reference.host} received another {self._blob.kind} than {self._blob.digest}",
            next_step="see that the file was not changed and that the line is sound, then push again",
        )

    @property
    def _location(self) -> str:
        assert self.location is not None
        return self.location

    def _advance(self, answer: Answer, offset: int) -> None:
        self.location, self.offset = answer.location() or self.location, offset
        if not self._whole:
            self._state.save(self._location)

    def _forget(self) -> None:
        self.location, self.offset = None, 0
        self._state.clear()


def _offset(answer: Answer) -> int | None:
    """Bytes that the registry has: ``Range: 0-99`` are 100. Distribution says ``0-0`` of none too."""
    match = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,15})", answer.headers.get("Range", ""))
    if match is None:
        return None
    return int(match[1]) + 1 if int(match[1]) else 0
