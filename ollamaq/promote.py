"""A model that has been tested under one name or on one server gets its name elsewhere.

Ollama's API does not give blobs away, so that between servers the bytes come from this machine: the package that was
published, a bundle, or a model in a store here. What they are is held against what the first server tells, and what is
there already is not sent again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ollamaq.errors import GateFailed, ModelRefused, ServerError, UsageError
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.parser import parse
from ollamaq.modelfile.render import render
from ollamaq.ollama import Progress, silent
from ollamaq.ollama.names import parse_name
from ollamaq.promotion import held, kept_versions, staging, switch
from ollamaq.registry.places import modelfile_of
from ollamaq.registry.sources import open_contents
from ollamaq.servers import Target, open_target
from ollamaq.servers.remote import RemoteServer
from ollamaq.smoke import CheckResult, run_smoke
from ollamaq.verify import on_target


@dataclass(frozen=True)
class Promoted:
    """``name`` on ``target`` is now the model of ``digest``; before it was that of ``replaced``, if any.

    ``sent`` tells whether its GGUF had to be sent; ``checks`` are those made between two servers.
    """

    name: str
    target: str
    digest: str
    replaced: str | None
    sent: bool = False
    checks: tuple[CheckResult, ...] = ()


class PromotionFailed(GateFailed):
    """A smoke test failed where the model was to go; ``checks`` tell which. Nothing was switched."""

    def __init__(self, name: str, label: str, checks: Sequence[CheckResult]) -> None:
        self.checks = tuple(checks)
        failed = ", ".join(check.name for check in checks if check.ok is False)
        super().__init__(
            f"{name} failed its smoke test on {label}: {failed}; nothing was switched",
            next_step="see how the servers differ: ollamaq doctor, ollama --version",
        )


def promote(
    name: str,
    final: str | None = None,
    *,
    source: str = "auto",
    to: str | None = None,
    package: str | None = None,
    keep: int = 0,
    prompts: Sequence[str] | None = None,
    expect: str | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Promoted:
    """Give the model ``name`` of a server the name ``final``, there or on another one.

    On one server it is a switch of names. On another one it is staged and smoke-tested first.

    Args:
        name: the model that has been tested.
        final: the name that it gets; by default the same, which then must be on another server.
        source: the server that has it, as ``--to`` names one.
        to: the server where it goes; by default the same.
        package: between servers, where its bytes are on this machine: a package's directory, a bundle, or a model's
            name; by default ``name``.
        keep: how many versions before to keep.
        prompts: questions of the smoke test.
        expect: a case-insensitive regular expression that the answer to the first question must contain.
        progress: is told ``(label, done, total)``, in bytes.
        options: further ones of `servers.open_target`, for both.

    Raises:
        PromotionFailed: a smoke test failed.
        ModelRefused: what is on this machine is not what the server has.
        UsageError: both names are one, or the first is a version kept of the second.
        ServerError: a server has no such model, cannot be reached, or refuses; or somebody else publishes there.
    """
    name = str(parse_name(name))
    final = str(parse_name(final)) if final else name
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(open_target(source, progress=progress, **options))
        if origin.digest(name) is None:
            raise ServerError(f"{origin.label} has no model {name}", next_step="see `ollama list` for those it has")
        target = stack.enter_context(open_target(to, progress=progress, **options)) if to else origin
        if target.label != origin.label:
            return _send(origin, name, target, final, package or name, keep, prompts, expect, progress)
        if parse_name(name).same(parse_name(final)):
            raise UsageError(f"{name} is its own name already", next_step="give another name, or another server")
        if name in kept_versions(target, final):
            raise UsageError(f"{name} is a version of {final} that is kept", next_step=f"ollamaq rollback {final}")
        with held(target, final, progress):
            before = target.digest(final)
            return Promoted(final, target.label, switch(target, name, final, before, keep=keep), before)


def _send(
    origin: Target,
    name: str,
    target: Target,
    final: str,
    package: str,
    keep: int,
    prompts: Sequence[str] | None,
    expect: str | None,
    progress: Progress,
) -> Promoted:
    modelfile, (model, *projector) = modelfile_of(open_contents(package, progress))
    _same(origin, name, package, model.sha256, modelfile)
    with staging(target, [final], keep=keep, progress=progress) as stage:
        waiting = stage.stage(final)
        sent = target.create(waiting, model.path, model.sha256, modelfile, progress, *projector)
        progress("smoke test", 0, 0)
        checks = tuple(run_smoke(target, waiting, None, prompts=prompts, expect=expect))
        if any(check.ok is False for check in checks):
            raise PromotionFailed(name, target.label, checks)
        return Promoted(final, target.label, stage.promote()[final], stage.seen[final], sent, checks)


def _same(origin: Target, name: str, package: str, sha256: str, modelfile: Modelfile) -> None:
    """That what is here is what a server has, as far as it tells."""
    if not isinstance(origin, RemoteServer):
        return  # it is of this machine itself
    weights, changes = on_target(origin, name, parse(render(modelfile)))
    changed = [*(["FROM"] if weights != sha256 else []), *(change.key for change in changes)]
    if changed:
        raise ModelRefused(
            f"{package} is not what {origin.label} has as {name}: {', '.join(changed)} differ",
            next_step="name the package that was published there: --package DIR",
        )
