"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

Source = Annotated[Path, typer.Argument(help="A Hugging Face model directory, or a GGUF file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but the result's name.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", "-t", min=1, envvar="OLLAMAQ_THREADS", help="Threads to work with.", show_default="all processors"
    ),
]
To = Annotated[
    str,
    typer.Option(
        "--to",
        envvar="OLLAMAQ_TO",
        help="Where to: auto, an Ollama server's address, container, store (this machine's models), or file.",
    ),
]
Image = Annotated[
    str, typer.Option("--image", envvar="OLLAMAQ_IMAGE", help="With --to container: the image of Ollama to run.")
]
Port = Annotated[
    int | None,
    typer.Option(
        "--port", min=1, max=65535, help="With --to container: the loopback port to use.", show_default="a free one"
    ),
]
Gpu = Annotated[bool, typer.Option("--gpu", help="With --to container: hand the GPUs through.")]


def _regex(text: str | None) -> str | None:
    try:
        re.compile(text or "")
    except re.error as error:
        raise typer.BadParameter(f"{text!r} is not a regular expression: {error}") from error
    return text


Expect = Annotated[
    str | None,
    typer.Option(
        "--expect",
        callback=_regex,
        help="Text that the answer to the first prompt must contain (a case-insensitive regex).",
        show_default=False,
    ),
]
Prompt = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt", help="Ask this in the smoke test instead of the default (repeatable).", show_default=False
    ),
]
