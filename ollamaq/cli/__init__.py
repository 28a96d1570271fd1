"""The command line: a thin skin over functions that a notebook can call."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ollamaq.cli.defaults import default_map
from ollamaq.cli.output import command

MODULES = {
    "publish": "publish",
    "promote": "promote",
    "rollback": "rollback",
    "plan": "plan",
    "quantize": "quantize",
    "convert": "convert",
    "inspect": "inspect",
    "push": "push",
    "pull": "pull",
    "bundle": "bundle",
    "install": "bundle",
    "verify": "verify",
    "sign": "verify",
    "config": "config",
    "doctor": "doctor",
    "smoke": "smoke",
    "gguf": "gguf",
    "modelfile": "modelfile",
    "template": "template",
}
"""Commands, in the order of ``--help``, and the modules of this package that have them."""


class _Commands(Mapping[str, Any]):
    """Each is imported when it is asked for, so that none waits for what only the others need."""

    def __getitem__(self, name: str) -> Any:
        return _imported(name, MODULES[name])

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


@functools.cache
def _imported(name: str, module: str) -> Any:
    run = getattr(importlib.import_module(f"ollamaq.cli.{module}"), name)
    holder = typer.Typer(rich_markup_mode="markdown", callback=lambda: None)
    if isinstance(run, typer.Typer):
        holder.add_typer(run, name=name)
    else:
        holder.command()(run)
    group = typer.main.get_command(holder)
    assert isinstance(group, TyperGroup)
    return group.commands[name]


class _Group(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()  # type: ignore[assignment]  # nothing is added to it


app = typer.Typer(
    name="ollamaq",
    help="Publish a fine-tuned model to Ollama: small, prompted as in training, and tested before users see it.",
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ollamaq {version('ollamaq')}")
        raise typer.Exit


@app.callback()
@command
def ollamaq(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Publish a fine-tuned model to Ollama."""
    context.default_map = default_map(context)


def main() -> None:
    """Entry point of the ``ollamaq`` command."""
    app()
