"""From a staging name to the final one, with the versions before kept, and back.

Nothing has its final name before it passed. Who else publishes under that name is waited for on this machine (a lock),
and noticed elsewhere (the digest under the name is compared right before the switch). Ollama's API has no way to
compare and switch in one step, so that of two that switch in the same instant the later stays, and is told so.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ollamaq.errors import ServerError
from ollamaq.locks import Lock, abandoned, locked
from ollamaq.ollama import Progress, silent
from ollamaq.ollama.names import kept_name, staging_name
from ollamaq.servers.target import Target


@dataclass(frozen=True)
class Staging:
    """Models that wait on one target for their gate; `staging` makes one."""

    target: Target
    locks: dict[str, Lock]
    seen: dict[str, str | None]
    """The digest under each final name when the work began."""
    keep: int = 0
    staged: dict[str, str] = field(default_factory=dict)

    def stage(self, final: str) -> str:
        """The name under which models wait for ``final``, one after another: nobody else's, ever.

        It is noted, so that the next run removes what this one left.
        """
        if final not in self.staged:
            self.staged[final] = staging_name(final, secrets.token_hex())
            self.locks[final].write(f"{self.target.label}\n{self.staged[final]}")
        return self.staged[final]

    def promote(self) -> dict[str, str]:
        """Give all that are staged their final names; the digest of each.

        Raises:
            ServerError: another model has got one of the names since the work began; none is switched then.
        """
        for final in self.staged:
            _unchanged(self.target, final, self.seen[final])
        return {
            final: switch(self.target, waiting, final, self.seen[final], keep=self.keep)
            for final, waiting in self.staged.items()
        }


@contextlib.contextmanager
def staging(target: Target, finals: Sequence[str], *, keep: int = 0, progress: Progress = silent) -> Iterator[Staging]:
    """Stage models for the names ``finals`` on an entered target, keeping ``keep`` versions before of each.

    Others on this machine that publish under one of them are waited for. Staging names are removed whatever happens,
    those too that a process of this machine left on the target for any name, as it was killed, or the server was.
    """
    with contextlib.ExitStack() as stack:
        locks = {final: stack.enter_context(held(target, final, progress)) for final in sorted(set(finals))}
        if keep:
            for final in locks:
                kept_name(final, keep)  # which may be too long a name
        seen = {final: target.digest(final) for final in locks}
        for lock in itertools.chain(locks.values(), abandoned()):
            _discard(target, lock)
        staged = Staging(target, locks, seen, keep)
        try:
            yield staged
        finally:
            for final in staged.staged:
                _discard(target, locks[final])


def switch(target: Target, source: str, final: str, seen: str | None, *, keep: int = 0) -> str:
    """Give the model ``source`` the name ``final`` too, under which ``seen`` is expected; the new digest.

    The model that had the name becomes ``…-prev-1``, the one before that ``…-prev-2``, up to ``keep``. At every moment
    the name answers, with the old model or the new one.

    Raises:
        ServerError: another model than ``seen`` has the name, or gets it meanwhile.
    """
    wanted = target.digest(source)
    if wanted is None:
        raise ServerError(f"{target.label} has no model {source} any more", next_step="publish again")
    if keep and seen and seen != wanted:
        _keep(target, final, seen, keep)
    _unchanged(target, final, seen)
    target.copy(source, final)
    if target.digest(final) != wanted:
        raise ServerError(
            f"{target.label} has another model as {final} than the one that was tested",
            next_step="see whether somebody else publishes under that name, then publish again",
        )
    for name in kept_versions(target, final)[keep:] if keep else ():
        target.delete(name)
    return wanted


def rollback(target: Target, name: str, *, progress: Progress = silent) -> tuple[str | None, str]:
    """Bring back the version before; the digests under ``name`` before and after.

    Nothing is lost: what had the name becomes the oldest of the kept versions, so that going back once more than there
    are versions is where it began.

    Raises:
        ServerError: no version before is kept, or somebody else publishes under that name.
    """
    with held(target, name, progress):
        kept, current = versions_before(target, name), target.digest(name)
        last = kept_name(name, len(kept) + 1)
        if current:
            target.copy(name, last)
        now = switch(target, kept[0], name, current)
        for older, newer in zip([*kept[1:], *([last] if current else [])], kept, strict=False):
            target.copy(older, newer)
        target.delete(last if current else kept[-1])
    return current, now


def versions_before(target: Target, name: str) -> list[str]:
    """As `kept_versions`.

    Raises:
        ServerError: there are none.
    """
    if kept := kept_versions(target, name):
        return kept
    raise ServerError(
        f"{target.label} has no version of {name} before this one",
        next_step="keep some from now on: ollamaq publish --keep 2",
    )


def kept_versions(target: Target, name: str) -> list[str]:
    """The names of the versions before that a target has, newest first."""
    found: list[str] = []
    while target.digest(kept := kept_name(name, len(found) + 1)):
        found.append(kept)
    return found


def held(target: Target, name: str, progress: Progress = silent) -> contextlib.AbstractContextManager[Lock]:
    """Keep other processes of this machine from publishing under a name; they are waited for."""
    return locked(
        f"{target.label} {name}".lower(),
        waiting=lambda: progress(f"waiting for another process that publishes {name}", 0, 0),
    )


def _keep(target: Target, final: str, seen: str, keep: int) -> None:
    kept = kept_versions(target, final)
    if kept and target.digest(kept[0]) == seen:  # by a run that came no further
        return
    names = [final, *kept][:keep]
    for i, name in reversed(list(enumerate(names, 1))):
        target.copy(name, kept_name(final, i))


def _unchanged(target: Target, final: str, seen: str | None) -> None:
    if target.digest(final) != seen:
        raise ServerError(
            f"somebody else has published {final} on {target.label} meanwhile; nothing was switched",
            next_step="see whether theirs is the better one, or publish again",
        )


def _discard(target: Target, lock: Lock) -> None:
    label, _, waiting = lock.note.rpartition("\n")
    if label != target.label:
        return
    with contextlib.suppress(ServerError):  # a server that is gone must not hide why it is; the note stays
        if target.digest(waiting):
            target.delete(waiting)
        lock.write("")
