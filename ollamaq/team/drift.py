"""What a server has, against what the team's catalogue says that it should have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ollamaq.chat.parameters import SAMPLING
from ollamaq.errors import UsageError
from ollamaq.modelfile.diff import Change, Meaning, diff, meaning, server_meaning
from ollamaq.modelfile.parser import parse
from ollamaq.modelfile.shown import NO_TEMPLATE, as_printed, read_shown
from ollamaq.modelfile.source import LIKE_A_PATH
from ollamaq.ollama.names import parse_name
from ollamaq.team.compose import Composed

Show = Callable[[str], Mapping[str, Any] | None]
"""What ``/api/show`` tells of a model; None where the server has none of that name."""

OWN = ("LICENSE", *(f"PARAMETER {name}" for name in (*SAMPLING.values(), "num_ctx")))
"""What a model may bring along where the catalogue says nothing: `publish` takes it from the checkpoint."""
STOP = "PARAMETER stop"


@dataclass(frozen=True)
class Drift:
    """A model of the catalogue and how the server's differs: from the catalogue to the server.

    ``brought`` is what the catalogue does not say, and may be the model's own.
    """

    label: str
    name: str
    missing: bool = False
    changes: tuple[Change, ...] = ()
    brought: tuple[Change, ...] = ()

    @property
    def found(self) -> bool:
        return self.missing or bool(self.changes)


def drift(model: Composed, show: Show) -> Drift:
    """Compare a model with the one of its name on a server.

    A server mixes what a Modelfile says with what it builds on. Where that is a model by name, which the server tells
    and has, both are told apart; otherwise what only a model itself can have brought is no drift. Who changes a model
    by hand creates it upon itself: then it must be as if it were built on what the catalogue says.

    Raises:
        UsageError: nothing says what the model is called.
    """
    if model.name is None:
        raise UsageError(f"{model.merged.chain[-1].where('name')} is missing", next_step="say what the server calls it")
    shown = show(model.name)
    if shown is None:
        return Drift(model.label, model.name, missing=True)
    parent = read_shown(shown, model.name).parent
    if parent and _other(parent, model.name):
        base = show(parent)
    elif parent and not LIKE_A_PATH.match(model.modelfile.from_):
        parent, base = None, show(model.modelfile.from_)
    else:
        parent = base = None
    wanted, there = meaning(parse(model.text())), _stored(shown)
    from_ = wanted.pop("FROM")[0]
    if base is not None:
        wanted = _over(_stored(base), wanted)
    changes = diff(wanted, there)
    if base is not None and parent and _other(parent, from_):
        changes.insert(0, Change("FROM", (from_,), (parent,)))
    brought = [] if base is not None else [change for change in changes if _may_be_own(change)]
    return Drift(
        model.label,
        model.name,
        changes=tuple(change for change in changes if change not in brought),
        brought=tuple(brought),
    )


def _stored(shown: Mapping[str, Any]) -> Meaning:
    """What a server has, with the TEMPLATE that it keeps instead of the one in effect, which may be the GGUF's."""
    found = server_meaning(shown)
    found.pop("TEMPLATE", None)
    template = as_printed(shown).get("TEMPLATE")
    return found | ({"TEMPLATE": [template]} if template and template != NO_TEMPLATE else {})


def _over(base: Meaning, said: Meaning) -> Meaning:
    """A Modelfile over the model that it builds on, as Ollama's ``ApplyModelfileLayers`` has it: licences add up."""
    licences = [*base.get("LICENSE", ()), *said.get("LICENSE", ())]
    return base | said | ({"LICENSE": ["\n".join(licences)]} if licences else {})


def _other(name: str, than: str) -> bool:
    """Whether one is the name of another model, or both are not names."""
    try:
        return not parse_name(name).same(parse_name(than))
    except UsageError:
        return True


def _may_be_own(change: Change) -> bool:
    if change.key == STOP:
        return set(change.old) <= set(change.new)
    return change.key in OWN and not change.old
