"""``ollamaq modelfile init``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ollamaq.cli.options import Json, Quiet, SourcePath
from ollamaq.cli.output import Output, command
from ollamaq.errors import UsageError


@command
def init(
    source: SourcePath,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("Modelfile"),
    from_: Annotated[str, typer.Option("--from", help="What FROM says.")] = "./model.gguf",
    system: Annotated[str | None, typer.Option(help="The system message.", show_default="asked, or none")] = None,
    num_ctx: Annotated[
        int | None, typer.Option(min=1, help="Tokens of context.", show_default="asked, or Ollama's own")
    ] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="The licence.", show_default="asked, or the model card's")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a Modelfile to start from: stops, sampling and licence as the model has them.

    In a terminal it asks for what no option says.
    """
    from ollamaq.files import write_text
    from ollamaq.starting import starting_modelfile

    if output.exists() and not force:
        raise UsageError(f"{output} is there already", next_step="choose another, or write over it with --force")
    start = starting_modelfile(source, from_)
    known = next(iter(start.modelfile.licenses), "")
    if in_terminal() and not yes:
        system = system if system is not None else typer.prompt("System message", default="", show_default=False)
        num_ctx = num_ctx or typer.prompt("Tokens of context (0: Ollama's own)", default=0, type=int)
        license_ = license_ if license_ is not None else typer.prompt("Licence", default=known)
    text = start.with_answers(system=system, num_ctx=num_ctx, license_=license_ if license_ is not None else known).text
    write_text(output, text)
    data = {"file": str(output), "modelfile": text}
    Output(as_json=as_json, quiet=quiet).result(data, f"wrote [bold]{output}[/]", brief=str(output))


def in_terminal() -> bool:
    """Whether somebody is there to ask."""
    return sys.stdin.isatty()
