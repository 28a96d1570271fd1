"""``ollamaq config``: every setting, and where it comes from."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.markup import escape

from ollamaq.cli.defaults import PREFIX
from ollamaq.cli.modelfile.inputs import Env
from ollamaq.cli.options import Json
from ollamaq.cli.output import Output, command, table
from ollamaq.errors import UsageError
from ollamaq.schema import Schema
from ollamaq.team.defaults import Defaults, read_defaults

VARIABLES = {
    "OLLAMA_HOST": "http://127.0.0.1:11434",
    "OLLAMA_MODELS": "~/.ollama/models",
    "OLLAMAQ_PRESETS": "",
    "OLLAMAQ_CPU": "the best that runs here",
}
"""Environment variables beside those of options, and what holds without them."""
SECRET = re.compile("TOKEN|PASSWORD|SECRET|KEY")


@command
def config(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="A model of ollamaq.toml, or a preset: its settings too.", show_default=False)
    ] = None,
    env: Env = "",
    schema: Annotated[
        str | None,
        typer.Option(
            "--schema",
            metavar="NAME",
            help="Print a JSON Schema instead: ollamaq, preset or smoke.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show every setting and where it comes from: an environment variable, ollamaq.toml, a preset, or nowhere.

    The command line comes before all of these.
    """
    from ollamaq.team.merge import merge
    from ollamaq.team.places import find_team

    if schema is not None:
        _print_schema(schema)
        return
    team, defaults = find_team(), read_defaults()
    settings = list(_settings(context.find_root().command, defaults))
    data: dict[str, Any] = {
        "file": str(team.file) if team.file else None,
        "settings": settings,
        "environments": team.environments,
        "models": sorted(team.models),
        "presets": [{"place": p.label, "directory": str(p.folder), "names": p.names()} for p in team.places],
    }
    tables = [_table("settings", settings)]
    if name:
        merged = merge(team, team.models.get(name) or team.preset(name), env)
        told = [
            {"setting": key, "value": setting.value, "origin": setting.origin}
            for key, setting in sorted(merged.settings.items())
        ]
        data |= {"model": {"name": name, "env": env, "settings": told}}
        tables.append(_table(f"\n{name} ({env})" if env else f"\n{name}", told))
    else:
        found = table("\nteam", "", "")
        found.add_row("catalogue", escape(str(team.file or "there is no ollamaq.toml here or above")))
        found.add_row("environments", escape(", ".join(team.environments)))
        found.add_row("models", escape(", ".join(sorted(team.models))))
        for place in team.places:
            found.add_row(f"presets, {escape(place.label)}", escape(f"{', '.join(place.names())} ({place.folder})"))
        tables.append(found)
    Output(as_json=as_json, quiet=False).result(data, *tables, brief="")


def _print_schema(name: str) -> None:
    found = schemas()
    if name not in found:
        raise UsageError(f"there is no schema {name!r}", next_step=f"use {', '.join(found)}")
    print(json.dumps(found[name], ensure_ascii=False, indent=2))


def schemas() -> dict[str, Schema]:
    """Those of all files that people write, by their names in ``docs/schemas``."""
    from ollamaq.smoke.cases import SCHEMA
    from ollamaq.team.schema import SCHEMAS

    return {**SCHEMAS, "smoke": SCHEMA}


def _settings(root: Any, defaults: Defaults) -> Iterator[dict[str, Any]]:
    known = {variable: (variable.removeprefix(PREFIX).lower(), default) for variable, default in VARIABLES.items()}
    for one in _all(root):
        for parameter in one.params:
            if isinstance(parameter.envvar, str) and parameter.envvar not in known:
                shown = getattr(parameter, "show_default", None)
                known[parameter.envvar] = parameter.name, shown if isinstance(shown, str) else parameter.default
    for variable, (name, default) in sorted(known.items(), key=lambda entry: entry[1][0]):
        if said := os.environ.get(variable):
            value, origin = "(hidden)" if SECRET.search(variable) else said, variable
        elif name in defaults.values and variable.startswith(PREFIX):
            value, origin = defaults.values[name], defaults.origin(name)
        else:
            value, origin = "" if default is None else default, "default"
        yield {"setting": name, "variable": variable, "value": value, "origin": origin}


def _all(of: Any) -> Iterator[Any]:
    yield of
    for inner in getattr(of, "commands", {}).values():
        yield from _all(inner)


def _table(title: str, settings: list[dict[str, Any]]) -> Any:
    rows = table(title, "", "value", "from")
    for one in settings:
        value = " ".join(str(one["value"]).split())
        rows.add_row(one["setting"], escape(value if len(value) <= 60 else f"{value[:60]}…"), escape(one["origin"]))
    return rows
