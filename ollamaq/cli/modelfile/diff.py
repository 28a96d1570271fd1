"""``ollamaq modelfile diff``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ollamaq.cli.modelfile.inputs import FINDINGS
from ollamaq.cli.options import Json
from ollamaq.cli.output import Output, command
from ollamaq.modelfile import diff as differ
from ollamaq.modelfile.parser import read_modelfile
from ollamaq.modelfile.printable import printed

COLOURS = {"-": "red", "+": "green", "@": "cyan"}

Side = Annotated[str, typer.Argument(help="A Modelfile, or the name of a model on the server.", show_default=False)]


@command
def diff(
    a: Side,
    b: Side,
    server: Annotated[
        str, typer.Option("--server", envvar="OLLAMA_HOST", help="Where models are that are no files.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Compare what two Modelfiles mean. Exits with 0 if it is the same, 1 if not.

    A server does not tell FROM, and of TEMPLATE only what is in effect: these are compared only where both sides say
    them.
    """
    sides = [Path(side) if os.path.lexists(side) else None for side in (a, b)]
    old, new = (
        differ.meaning(read_modelfile(path)) if path else _on_server(name, server)
        for name, path in zip((a, b), sides, strict=True)
    )
    if None in sides:
        old, new = differ.comparable(old, new)
    changes = differ.diff(old, new)
    data = {"a": a, "b": b, "changes": [{"what": c.key, "a": list(c.old), "b": list(c.new)} for c in changes]}
    lines = [Text(printed(line), COLOURS.get(line[:1], "")) for change in changes for line in change.lines()]
    Output(as_json=as_json, quiet=False).result(data, *lines, brief="")
    if changes:
        raise typer.Exit(FINDINGS)


def _on_server(name: str, server: str) -> differ.Meaning:
    from ollamaq.ollama.client import Client
    from ollamaq.ollama.host import parse_host

    with Client(parse_host(server)) as client:
        return differ.server_meaning(client.show(name))
