"""``ollamaq modelfile explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from ollamaq.cli.modelfile.inputs import Ollama
from ollamaq.cli.options import Json
from ollamaq.cli.output import Output, command
from ollamaq.modelfile.explain import explain as explained
from ollamaq.modelfile.parser import Command, read_modelfile
from ollamaq.modelfile.printable import printed
from ollamaq.modelfile.versions import NEWEST, parse_version

WIDTH = 60


@command
def explain(
    file: Annotated[Path, typer.Argument(help="A Modelfile.", show_default=False)],
    ollama: Ollama = NEWEST,
    as_json: Json = False,
) -> None:
    """Say in words what each instruction of a Modelfile will do."""
    document = read_modelfile(file)
    lines: list[Text] = []
    entries: list[dict[str, Any]] = []
    for told, sentence in explained(document, file.parent, parse_version(ollama)):
        line = document.place(told.start)[0]
        entries.append({"line": line, "instruction": told.label, "value": told.value, "does": sentence})
        lines.append(Text.assemble((f"{line}: {_short(told)}", "bold"), f"\n    {printed(sentence)}"))
    Output(as_json=as_json, quiet=False).result(
        {"file": str(file), "ollama": ollama, "instructions": entries}, *lines, brief=""
    )


def _short(told: Command) -> str:
    text = " ".join(f"{told.label} {told.value}".split())
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"
