"""The command line: a thin skin over functions that a notebook can call."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from ollamaq.cli.bundle import bundle, install
from ollamaq.cli.config import config, default_map
from ollamaq.cli.convert import convert
from ollamaq.cli.doctor import doctor
from ollamaq.cli.gguf import gguf
from ollamaq.cli.inspect import inspect
from ollamaq.cli.modelfile import modelfile
from ollamaq.cli.output import command
from ollamaq.cli.plan import plan
from ollamaq.cli.promote import promote
from ollamaq.cli.publish import publish
from ollamaq.cli.pull import pull
from ollamaq.cli.push import push
from ollamaq.cli.quantize import quantize
from ollamaq.cli.rollback import rollback
from ollamaq.cli.smoke import smoke
from ollamaq.cli.template import template
from ollamaq.cli.verify import sign, verify

app = typer.Typer(
    name="ollamaq",
    help="Publish a fine-tuned model to Ollama: small, prompted as in training, and tested before users see it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for run in (
    publish,
    promote,
    rollback,
    plan,
    quantize,
    convert,
    inspect,
    push,
    pull,
    bundle,
    install,
    verify,
    sign,
    config,
    doctor,
):
    app.command()(run)
app.add_typer(smoke, name="smoke")
app.add_typer(gguf, name="gguf")
app.add_typer(modelfile, name="modelfile")
app.add_typer(template, name="template")


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
