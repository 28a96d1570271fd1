"""A team's whole catalogue: every model in every environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ollamaq.errors import UsageError
from ollamaq.team.compose import Composed, compose
from ollamaq.team.files import CATALOGUE
from ollamaq.team.places import Team


def catalogue(team: Team, names: Sequence[str] = (), env: str = "") -> list[Composed]:
    """The models of these names (all, if there are none), each in ``env``, or else in every environment of the team.

    Raises:
        UsageError: a model is unknown, as `compose` says, or has no FROM.
        PolicyBroken: a model is not as a policy wants it.
    """
    if not team.root:
        raise UsageError(f"there is no {CATALOGUE} here or above", next_step="see examples/team for one")
    tables = [team.model(name) for name in names] if names else list(team.models.values())
    composed = [compose(team, table, one) for table in tables for one in ([env] if env else team.environments or [""])]
    for model in composed:
        if not model.modelfile.from_:
            raise UsageError(f"{model.merged.chain[-1].where('from')} is missing", next_step="say what it builds on")
    return composed


def rendered(models: Sequence[Composed]) -> dict[Path, str]:
    """The Modelfile of each model, by its path.

    Raises:
        UsageError: two models that differ have one path, or one cannot be written in Ollama's grammar.
    """
    made: dict[Path, tuple[Composed, str]] = {}
    for model in models:
        assert model.output
        text = model.text()
        other, written = made.setdefault(model.output, (model, text))
        if written != text:
            raise UsageError(
                f"{other.label} and {model.label} are both written to {model.output}",
                next_step="put {{ model }} and {{ env }} into output",
            )
    return {path: text for path, (_, text) in made.items()}
