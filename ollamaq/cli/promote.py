"""``ollamaq promote``: a tested model gets its name, on its server or on another one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ollamaq.cli.options import Expect, Json, Keep, Prompt, Quiet
from ollamaq.cli.output import Output, command, described, failure
from ollamaq.cli.publish import checks_table
from ollamaq.promote import PromotionFailed
from ollamaq.promote import promote as run_promote


@command
def promote(
    name: Annotated[str, typer.Argument(help="The model that has been tested.", show_default=False)],
    final: Annotated[str | None, typer.Argument(help="The name that it gets.", show_default="the same")] = None,
    source: Annotated[
        str, typer.Option("--from", help="The server that has it: auto, an address, or store.", metavar="SERVER")
    ] = "auto",
    to: Annotated[
        str | None, typer.Option("--to", help="The server where it goes.", show_default="the same", metavar="SERVER")
    ] = None,
    package: Annotated[
        str | None,
        typer.Option(
            help="Between servers, its bytes on this machine: a package, a bundle, or a model in the store.",
            show_default="the model of that name",
            metavar="SRC",
        ),
    ] = None,
    keep: Keep = 0,
    expect: Expect = None,
    prompt: Prompt = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Give a model that has been tested its name; on another server it is sent, staged and tested first."""
    out = Output(as_json=as_json, quiet=quiet)
    try:
        with out.progress() as progress:
            promoted = run_promote(
                name,
                final,
                source=source,
                to=to,
                package=package,
                keep=keep,
                prompts=prompt,
                expect=expect,
                progress=progress,
            )
    except PromotionFailed as error:
        data = {"checks": [asdict(check) for check in error.checks]}
        out.result(data | described(error), checks_table("smoke test", error.checks), brief="")
        raise failure(error) from None
    tables = [checks_table(f"smoke test on {promoted.target}", promoted.checks)] if promoted.checks else []
    was = f", and was {promoted.replaced[:12]}" if promoted.replaced else ""
    ending = f"[bold]{promoted.name}[/] on {promoted.target} is {promoted.digest[:12]} now{was}"
    out.result(asdict(promoted), *tables, ending, brief=promoted.name)
