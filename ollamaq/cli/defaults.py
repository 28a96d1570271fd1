"""What options are where neither the command line nor the environment says it: ``defaults`` of ollamaq.toml."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from ollamaq.team.defaults import read_defaults

PREFIX = "OLLAMAQ_"
"""Of the environment variables of options; what has none comes from the command line alone."""


def default_map(context: typer.Context) -> dict[str, Any]:
    """What ollamaq.toml says for the options of the command that is run, in the form in which typer takes it."""
    values, name = read_defaults().values, context.invoked_subcommand
    if not values or not name:
        return {}
    assert isinstance(context.command, TyperGroup)
    return {name: _mapped(context.command.commands[name], values)}


def _mapped(of: Any, values: dict[str, Any]) -> dict[str, Any]:
    own = {name: values[name] for name, variable in _options(of) if name in values and variable.startswith(PREFIX)}
    return own | {name: _mapped(inner, values) for name, inner in getattr(of, "commands", {}).items()}


def _options(of: Any) -> Iterator[tuple[str, str]]:
    """Names of a command's options that have an environment variable, with that."""
    for parameter in of.params:
        if isinstance(parameter.envvar, str):
            yield parameter.name, parameter.envvar
