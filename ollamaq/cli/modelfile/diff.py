"""``ollamaq modelfile diff``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from ollamaq.cli.modelfile.inputs import FINDINGS
from ollamaq.cli.options import Json
from ollamaq.cli.output import Output, command
from ollamaq.modelfile import diff as differ
from ollamaq.modelfile.parser import read_modelfile
from ollamaq.modelfile.printable import printed
from ollamaq.modelfile.source import is_gguf, path_of

COLOURS = {"-": "red", "+": "green", "@": "cyan"}

Side = Annotated[
    str,
    typer.Argument(help="A Modelfile, a GGUF or model directory, or a model on the server.", show_default=False),
]


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

    A model says by itself what `modelfile init` would write of it, and its own chat template. It has no FROM, which a
    server does not tell either, and of TEMPLATE only what is in effect: these are compared only where both sides say
    them.
    """
    (old, whole), (new, whole_too) = (_side(side, server) for side in (a, b))
    if not (whole and whole_too):
        old, new = differ.comparable(old, new)
    changes = differ.diff(old, new)
    data = {"a": a, "b": b, "changes": [{"what": c.key, "a": list(c.old), "b": list(c.new)} for c in changes]}
    lines = [Text(printed(line), COLOURS.get(line[:1], "")) for change in changes for line in change.lines()]
    Output(as_json=as_json, quiet=False).result(data, *lines, brief="")
    if changes:
        raise typer.Exit(FINDINGS)


def _side(side: str, server: str) -> tuple[differ.Meaning, bool]:
    """What it means, and whether that is all of it: FROM and TEMPLATE, too."""
    from ollamaq.starting import meaning_of_model

    path = path_of(side)
    if path is None:
        return _on_server(side, server), False
    if path.is_dir() or is_gguf(path):
        return meaning_of_model(path), False
    return differ.meaning(read_modelfile(path)), True


def _on_server(name: str, server: str) -> differ.Meaning:
    from ollamaq.ollama.client import Client
    from ollamaq.ollama.host import parse_host

    with Client(parse_host(server)) as client:
        return differ.server_meaning(client.show(name))
