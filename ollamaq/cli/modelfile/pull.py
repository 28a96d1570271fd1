"""``ollamaq modelfile pull``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ollamaq.cli.options import Json
from ollamaq.cli.output import Output, command, stderr
from ollamaq.errors import UsageError
from ollamaq.files import write_text
from ollamaq.modelfile.shown import Shown, read_shown, written


@command
def pull(
    name: Annotated[str, typer.Argument(help="A model on the server.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write it there.", show_default="printed"),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", help="What FROM says.", show_default="the model that it was made of, or else the model itself"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    server: Annotated[str, typer.Option("--server", envvar="OLLAMA_HOST", help="Where the model is.")] = "",
    as_json: Json = False,
) -> None:
    """Write the Modelfile of a model that a server has."""
    from ollamaq.ollama.client import Client, ModelNotFound
    from ollamaq.ollama.host import parse_host

    if output and output.exists() and not force:
        raise UsageError(f"{output} is there already", next_step="choose another name, or write over it with --force")
    with Client(parse_host(server)) as client:
        shown = read_shown(client.show(name), name)
        base: Shown | None = shown
        if shown.parent and not from_:
            try:
                base = read_shown(client.show(shown.parent), shown.parent)
            except ModelNotFound:
                base = None
    text = written(shown, base, from_)
    if output:
        write_text(output, text)
    for left_out in shown.unwritten:
        stderr.print(f"left out, since no Modelfile can say it: {left_out}", markup=False)
    data = {"name": name, "file": str(output) if output else None, "modelfile": text, "left_out": [*shown.unwritten]}
    if as_json:
        Output(as_json=True, quiet=False).result(data, brief="")
    elif output:
        print(output)
    else:
        print(text, end="")
