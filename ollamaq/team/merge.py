"""Presets on top of each other, each setting with the place where it was said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ollamaq.chat.known import find_format
from ollamaq.errors import UsageError
from ollamaq.modelfile.words import did_you_mean
from ollamaq.team.files import section
from ollamaq.team.places import Table, Team

LONGEST = 20
"""Presets that build on each other."""
TABLES = ("parameters", "variables")
"""Settings that are merged entry by entry; of all others the last one counts, whole."""
INSTEAD = {
    "system": "system_file",
    "system_file": "system",
    "template_file": "chat_format",
    "chat_format": "template_file",
}
"""Settings that say the same thing: one said later takes the place of the other."""


@dataclass(frozen=True)
class Setting:
    """A value, and the table that says it, at ``key``; or, where it is ``implied``, the chat format named there."""

    value: Any
    table: Table
    key: str
    implied: bool = False

    @property
    def origin(self) -> str:
        return self.table.where(self.key)


@dataclass(frozen=True)
class Merged:
    """What all presets of a model come to in an environment; tables are flat: ``parameters.temperature``."""

    name: str
    env: str
    settings: dict[str, Setting]
    policies: tuple[Setting, ...]
    chain: tuple[Table, ...]

    def inside(self, table: str) -> dict[str, Setting]:
        """The entries of ``parameters`` or ``variables``."""
        return {
            key.removeprefix(f"{table}."): setting
            for key, setting in self.settings.items()
            if key.startswith(f"{table}.")
        }


def merge(team: Team, table: Table, env: str = "") -> Merged:
    """A model or a preset with everything that it builds on. What builds on another wins over it; within one of them,
    what it says for the environment wins.

    Raises:
        UsageError: a preset is missing, builds on itself, or nobody knows the environment.
    """
    chain = _chain(team, table)
    _check_environment(team, chain, env)
    settings: dict[str, Setting] = {}
    policies = [_catalogue_policy(team)] if team.catalogue.get("policy") else []
    for part in chain:
        for prefix, data in _layers(part, env):
            for key, setting in _flat(part, prefix, data):
                settings.pop(INSTEAD.get(key, ""), None)
                settings[key] = setting
            if policy := data.get("policy"):
                policies.append(Setting(policy, part, f"{prefix}policy"))
    if said := settings.get("chat_format"):
        known = find_format(said.value)
        for name, value in {**known.parameters, "stop": list(known.stops)}.items():
            settings.setdefault(
                f"parameters.{name}", Setting(value, said.table, f"{said.key} (its {name})", implied=True)
            )
    return Merged(table.name, env, settings, tuple(policies), tuple(chain))


def _chain(team: Team, table: Table) -> list[Table]:
    """The preset at the bottom first. A preset may build on one of its own name, which is found further on."""
    chain = [table]
    while base := chain[0].data.get("extends"):
        said = chain[0].where("extends")
        known = {(part.file, part.key) for part in chain}
        found = [preset for preset in team.presets(base) if (preset.file, preset.key) not in known]
        if not found and next(team.presets(base), None):
            names = " builds on ".join([*(part.name for part in reversed(chain)), base])
            raise UsageError(f"{said}: {names}, which never ends", next_step="take one extends away")
        if not found:
            try:
                team.preset(base)
            except UsageError as error:
                raise UsageError(f"{said}: {error}", next_step=error.next_step) from error
        if len(chain) == LONGEST:
            raise UsageError(f"{said}: more than {LONGEST} presets build on each other", next_step="use fewer")
        chain.insert(0, found[0])
    return chain


def _check_environment(team: Team, chain: list[Table], env: str) -> None:
    named = [name for part in chain for name in part.data.get("environments", {})]
    known = team.environments or list(dict.fromkeys(named))
    if env and env not in known:
        raise UsageError(
            f"there is no environment {env!r}{did_you_mean(env, known)}",
            next_step=f"use {', '.join(known)}" if known else f"name it in environments of {team.file or 'a preset'}",
        )
    for part in chain:
        for name in part.data.get("environments", {}):
            if part.root == team.root and team.environments and name not in team.environments:
                raise UsageError(
                    f"{part.where(f'environments.{name}')} is for an environment that {team.file} does not name"
                    f"{did_you_mean(name, team.environments)}",
                    next_step=f"it names {', '.join(team.environments)}",
                )


def _catalogue_policy(team: Team) -> Setting:
    assert team.root
    assert team.file
    return Setting(
        team.catalogue["policy"], Table("", team.catalogue, team.file, team.root, section(team.file)), "policy"
    )


def _layers(part: Table, env: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "", part.data
    if special := part.data.get("environments", {}).get(env):
        yield f"environments.{env}.", special


def _flat(part: Table, prefix: str, data: dict[str, Any]) -> Iterator[tuple[str, Setting]]:
    for key, value in data.items():
        if key in TABLES:
            for name, inner in value.items():
                yield f"{key}.{name}", Setting(inner, part, f"{prefix}{key}.{name}")
        elif key not in ("extends", "environments", "policy"):
            yield key, Setting(value, part, f"{prefix}{key}")
