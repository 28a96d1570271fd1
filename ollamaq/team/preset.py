"""What a team wants of a model that is published from a checkpoint: its preset over what the model itself brings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ollamaq.chat.jinja import ChatFormat
from ollamaq.modelfile.model import Modelfile
from ollamaq.ollama.names import default_name, parse_name
from ollamaq.team.compose import Composed, filled, hold
from ollamaq.team.merge import Merged, Setting, merge
from ollamaq.team.places import Table, Team, find_team


@dataclass(frozen=True)
class Preset:
    """A preset, or a model of the catalogue, for the model at ``source``."""

    source: Path
    team: Team
    merged: Merged
    composed: Composed

    @property
    def name(self) -> str | None:
        """What the model is to be called, where the preset says it."""
        return self.composed.name

    @property
    def chat_format(self) -> str | None:
        """The known chat format that it was trained with, where the preset says it."""
        said = self.merged.settings.get("chat_format")
        return said.value if said else None

    def applied(self, own: Modelfile, name: str, licence: str | None = None) -> Modelfile:
        """The Modelfile of the model: what the preset says, over what the model brings, ``own`` and its licence.

        Stops add up: without its own the model would not end. A TEMPLATE is only written where the preset has one of
        its own, since the GGUF carries the one of a known chat format.

        Raises:
            UsageError: a file is missing, or a template fails.
            PolicyBroken: it is not as a policy wants it; ``name`` is what it will be called.
        """
        settings = self.merged.settings
        told = {key: setting for key, setting in settings.items() if not setting.implied}
        brought = {key: Setting(value, self._table, key) for key, value in _brought(own, licence).items()}
        if "parameters.stop" in told and (stops := own.parameters.get("stop")):
            said = told["parameters.stop"]
            told["parameters.stop"] = replace(said, value=_together(stops, said.value))
        composed = filled(self.team, replace(self.merged, settings=settings | brought | told))
        hold(composed, name)
        template = None if self.chat_format else composed.modelfile.template
        return replace(composed.modelfile, from_=own.from_, projector=own.projector, template=template)

    @property
    def _table(self) -> Table:
        return Table(self.merged.name, {}, self.source, self.source)


def preset_for(source: Path, preset: str, env: str = "") -> Preset:
    """The model of the catalogue of that name, or else the preset; ``{{ model }}`` in a preset is the source's name.

    Raises:
        UsageError: there is none of that name; else as `compose`.
    """
    team = find_team(model=source)
    table = team.models.get(preset) or team.preset(preset)
    merged = merge(team, table, env)
    if not table.model:
        merged = replace(merged, name=parse_name(default_name(source, "latest")).model)
    return Preset(source, team, merged, filled(team, merged))


@dataclass(frozen=True)
class PromptedWith(ChatFormat):
    """A chat format behind what a server puts in front of a conversation: MESSAGEs, and SYSTEM where it brings none.

    That is the order of Ollama's ``ChatHandler``.
    """

    system: str | None = None
    messages: tuple[tuple[str, str], ...] = ()

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The prompt of a conversation."""
        before = [{"role": role, "content": content} for role, content in self.messages]
        if self.system and not (messages and messages[0].get("role") == "system"):
            before.insert(0, {"role": "system", "content": self.system})
        return super().render([*before, *messages], add_generation_prompt=add_generation_prompt, **variables)


def prompted(chat_format: ChatFormat | None, modelfile: Modelfile) -> ChatFormat | None:
    """How conversations are prompted with a Modelfile's SYSTEM and MESSAGEs."""
    if chat_format is None or not (modelfile.system or modelfile.messages):
        return chat_format
    return PromptedWith(chat_format.template, chat_format.special_tokens, modelfile.system, modelfile.messages)


def _brought(own: Modelfile, licence: str | None) -> dict[str, Any]:
    return {f"parameters.{key}": value for key, value in own.parameters.items()} | (
        {"license": licence} if licence and licence != "other" else {}
    )


def _together(*several: Any) -> list[str]:
    return list(dict.fromkeys(_texts(several)))


def _texts(several: Sequence[Any]) -> Iterator[str]:
    for texts in several:
        yield from [texts] if isinstance(texts, str) else texts
