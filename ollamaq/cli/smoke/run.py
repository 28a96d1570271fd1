"""``ollamaq smoke NAME``: the checks of a publish, on a model that a server has already."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ollamaq.chat.jinja import ChatFormat
from ollamaq.checkpoint import open_checkpoint
from ollamaq.cli.options import Cpus, Expect, Gpu, Image, Json, Ollama, Port, Prompt, Quiet, Report, SuiteFile, To
from ollamaq.cli.output import Output, command, described, failure
from ollamaq.cli.publish import checks_table
from ollamaq.cli.report import write_all
from ollamaq.errors import GateFailed, ServerError, UsageError
from ollamaq.gate import read_gate
from ollamaq.ollama.names import parse_name
from ollamaq.report import Outcome, check_reports
from ollamaq.servers import DEFAULT_IMAGE, open_targets
from ollamaq.smoke import CheckResult, apart, read_suite, run_smoke
from ollamaq.smoke.tokens import tokenizer_of


@command
def run(
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
    suite: SuiteFile = None,
    report: Report = None,
    image: Image = DEFAULT_IMAGE,
    ollama: Ollama = None,
    gpu: Gpu = False,
    cpus: Cpus = None,
    port: Port = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Test a model where it runs: it loads, answers, stops by itself, and is prompted as in training."""
    out = Output(as_json=as_json, quiet=quiet)
    name = str(parse_name(name))
    check_reports(report or ())
    cases, gate = read_suite(suite) if suite else (), read_gate()
    opened = open_checkpoint(checkpoint) if checkpoint else None
    chat_format = ChatFormat.of(opened) if opened else None
    tokenize = tokenizer_of(opened.tokenizer_path) if opened else None
    checks: list[CheckResult] = []
    labels: list[str] = []
    with contextlib.ExitStack() as stack:
        if to == "file":
            raise UsageError("a file runs no model", next_step="name a server, or use --to container or store")
        for opened_target in open_targets(to, image=image, ollama=ollama or (), gpu=gpu, cpus=cpus, port=port):
            target = stack.enter_context(opened_target)
            if target.digest(name) is None:
                raise ServerError(f"{target.label} has no model {name}", next_step="see `ollama list` for those it has")
            seen = run_smoke(target, name, chat_format, prompts=prompt, expect=expect, tokenize=tokenize, cases=cases)
            seen = gate.judged(seen)
            checks += apart(seen, target) if len(ollama or ()) > 1 else seen
            labels.append(target.label)
    title = f"smoke test of {name} on {', '.join(labels)}"
    tested = Outcome(name, ", ".join(labels), checks)
    write_all(out, [tested], report)
    passed = tested.passed
    data = {"name": name, "passed": passed, "checks": [asdict(check) for check in checks]}
    if passed:
        out.result(data, checks_table(title, checks), brief=name)
        return
    failed = ", ".join(check.name for check in tested.failed)
    error = GateFailed(f"{name} failed its smoke test: {failed}", next_step="publish a mended model over it")
    out.result(data | described(error), checks_table(title, checks), brief="")
    raise failure(error)
