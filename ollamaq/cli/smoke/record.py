"""``ollamaq smoke record``: a suite made of a fine-tune's own examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ollamaq.chat.jinja import ChatFormat
from ollamaq.checkpoint import open_checkpoint
from ollamaq.cli.options import Image, Json, Quiet, To
from ollamaq.cli.output import Output, command
from ollamaq.errors import ServerError, UsageError
from ollamaq.files import write_text
from ollamaq.ollama.names import parse_name
from ollamaq.servers import DEFAULT_IMAGE, open_target
from ollamaq.smoke.record import Recorded, choose, fitting, read_examples, suite_text
from ollamaq.smoke.record import record as record_answers


@command
def record(
    source: Annotated[
        str,
        typer.Argument(
            help="The fine-tune's directory, or a model that runs: then its answers are recorded.", show_default=False
        ),
    ],
    examples: Annotated[
        Path,
        typer.Option(
            "--examples",
            metavar="FILE.jsonl",
            help="As trainers take them: messages, ShareGPT or Alpaca.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The suite to write.")] = Path("smoke.toml"),
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many of the examples.")] = 20,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="NAME",
            help="Record its answers, such as the F16 model's.",
            show_default=False,
        ),
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
    found = read_examples(examples)
    if Path(source).is_dir():
        if chat_format := ChatFormat.of(open_checkpoint(Path(source))):
            found = fitting(found, chat_format)
    else:
        baseline = baseline or source
    if baseline:
        baseline = str(parse_name(baseline))
    chosen = choose(found, count)
    recorded = [Recorded(example) for example in chosen]
    if baseline:
        with open_target(to, image=image) as target:
            if target.digest(baseline) is None:
                raise ServerError(f"{target.label} has no model {baseline}", next_step="see `ollama list`")
            recorded = record_answers(target, baseline, chosen)
    if left := len(chosen) - len(recorded):
        out.note(f"{left} of {len(chosen)} examples left out: {baseline} answers with nothing, marks or a loop")
    if not recorded:
        raise UsageError(f"{examples} has no example to make a case of", next_step="see docs/smoke-suites.md")
    write_text(output, suite_text(recorded, examples.name, tolerance))
    said = f"wrote [bold]{escape(str(output))}[/] with {len(recorded)} cases; use it with: "
    said += f"ollamaq smoke NAME --suite {escape(str(output))}"
    out.result({"suite": str(output), "cases": len(recorded), "baseline": baseline}, said, brief=str(output))
