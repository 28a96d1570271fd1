"""``ollamaq smoke``: the checks of a publish, on a model that a server has already."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ollamaq.chat.jinja import ChatFormat
from ollamaq.checkpoint import open_checkpoint
from ollamaq.cli.options import Expect, Gpu, Image, Json, Port, Prompt, Quiet, To
from ollamaq.cli.output import Output, command, described, failure
from ollamaq.cli.publish import checks_table
from ollamaq.errors import GateFailed, ServerError
from ollamaq.ollama.names import parse_name
from ollamaq.servers import DEFAULT_IMAGE, open_target
from ollamaq.smoke import run_smoke
from ollamaq.smoke.tokens import token_counter


@command
def smoke(
    name: Annotated[str, typer.Argument(help="The model to test.", show_default=False)],
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="The directory it was made from: its prompts and token counts are compared.", show_default=False
        ),
    ] = None,
    to: To = "auto",
    expect: Expect = None,
    prompt: Prompt = None,
    image: Image = DEFAULT_IMAGE,
    gpu: Gpu = False,
    port: Port = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Test a model where it runs: it loads, answers, stops by itself, and is prompted as in training."""
    out = Output(as_json=as_json, quiet=quiet)
    name = str(parse_name(name))
    opened = open_checkpoint(checkpoint) if checkpoint else None
    chat_format = ChatFormat.of(opened) if opened else None
    counter = token_counter(opened.tokenizer_path) if opened else None
    with open_target(to, image=image, gpu=gpu, port=port) as target:
        if target.digest(name) is None:
            raise ServerError(f"{target.label} has no model {name}", next_step="see `ollama list` for those it has")
        checks = run_smoke(target, name, chat_format, prompts=prompt, expect=expect, count_tokens=counter)
        title = f"smoke test of {name} on {target.label}"
    passed = all(check.ok is not False for check in checks)
    data = {"name": name, "passed": passed, "checks": [asdict(check) for check in checks]}
    if passed:
        out.result(data, checks_table(title, checks), brief=name)
        return
    failed = ", ".join(check.name for check in checks if check.ok is False)
    error = GateFailed(f"{name} failed its smoke test: {failed}", next_step="publish a mended model over it")
    out.result(data | described(error), checks_table(title, checks), brief="")
    raise failure(error)
