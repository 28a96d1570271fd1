"""A team's policy: what its models must say, may not say, and how they may be called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from ollamaq.errors import OllamaqError
from ollamaq.ollama.names import parse_name
from ollamaq.team.merge import Merged, Setting


class PolicyBroken(OllamaqError):
    """A model is not as its team's policy wants it."""

    def __init__(self, model: str, broken: list[str]) -> None:
        super().__init__(f"{model} breaks the policy: {'; '.join(broken)}", next_step="change the model or the policy")
        self.broken = tuple(broken)


def broken(merged: Merged, name: str | None) -> list[str]:
    """Every rule that a model breaks, with the place of the rule; ``name`` is what it is called on servers."""
    return [f"{said} ({policy.origin})" for policy in merged.policies for said in _broken(policy.value, merged, name)]


def _broken(policy: dict[str, Any], merged: Merged, name: str | None) -> Iterator[str]:
    settings = merged.settings
    yield from (f"it has no {key}" for key in policy.get("require", ()) if not _said(key, merged))
    yield from (
        f"{_place(setting)} may not be said"
        for key in policy.get("forbid", ())
        for setting in _all(key, settings).values()
    )
    for key, (low, high) in policy.get("ranges", {}).items():
        setting = settings.get(f"parameters.{key}")
        if setting and not low <= setting.value <= high:
            yield f"{_place(setting)} is {setting.value}, not between {low} and {high}"
    if (allowed := policy.get("licenses")) is not None:
        if licence := settings.get("license"):
            if licence.value not in allowed:
                yield f"{_place(licence)} is {licence.value!r}, not one of {', '.join(allowed)}"
        elif "license_file" in settings:
            yield f"its licence has no name beside {_place(settings['license_file'])}"
    if name is not None:
        stem, _, tag = str(parse_name(name)).rpartition(":")
        yield from _unlike("name", stem, policy.get("names"))
        yield from _unlike("tag", tag, policy.get("tags"))


def _said(key: str, merged: Merged) -> bool:
    """Whether it is said, and not empty; a text may come from a file."""
    found = {**_all(key, merged.settings), **_all(f"{key}_file", merged.settings)}
    return any(setting.value != "" and setting.value != [] for setting in found.values())


def _all(key: str, settings: dict[str, Setting]) -> dict[str, Setting]:
    return {said: setting for said, setting in settings.items() if said == key or said.startswith(f"{key}.")}


def _place(setting: Setting) -> str:
    return setting.origin


def _unlike(what: str, value: str, patterns: list[str] | None) -> Iterator[str]:
    if patterns is not None and not any(fnmatchcase(value, re.sub(r"\*+", "*", p)) for p in patterns):
        yield f"the {what} {value!r} is like none of {', '.join(patterns)}"
