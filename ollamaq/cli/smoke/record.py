"""``ollamaq smoke record``: a suite made of a fine-tune's own examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ollamaq.cli.options import Image, Json, Quiet, To
from ollamaq.cli.output import Output, command
from ollamaq.errors import UsageError
from ollamaq.files import write_text
from ollamaq.servers import DEFAULT_IMAGE, open_target
from ollamaq.smoke.record import baselines, choose, read_examples, suite_text


@command
def record(
    examples: Annotated[
        Path,
        typer.Argument(help="JSONL as trainers take it: messages, ShareGPT or Alpaca.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The suite to write.")] = Path("smoke.toml"),
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many of the examples.")] = 20,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", help="Record what this model answers, such as the F16 one.", show_default=False),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="The share of its words that may differ from the baseline.")
    ] = 0.3,
    force: Annotated[bool, typer.Option("--force", help="Replace a suite that is there.")] = False,
    to: To = "auto",
    image: Image = DEFAULT_IMAGE,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a suite of a fine-tune's own examples, with the answers of a model if one is named."""
    out = Output(as_json=as_json, quiet=quiet)
    if output.exists() and not force:
        raise UsageError(f"{output} is there already", next_step="give another --output, or --force")
    chosen = choose(list(read_examples(examples)), count)
    answers = None
    if baseline:
        with open_target(to, image=image) as target:
            answers = baselines(target, baseline, chosen)
    write_text(output, suite_text(chosen, examples.name, answers, tolerance))
    said = f"wrote [bold]{output}[/] with {len(chosen)} cases; run it with: ollamaq smoke NAME --suite {output}"
    out.result({"suite": str(output), "cases": len(chosen), "baseline": baseline}, said, brief=str(output))
