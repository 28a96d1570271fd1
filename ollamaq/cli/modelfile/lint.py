"""``ollamaq modelfile lint``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ollamaq.cli.modelfile.inputs import FINDINGS, Ollama, Paths, StdinFilename, inputs
from ollamaq.cli.options import amount
from ollamaq.cli.output import command, stderr
from ollamaq.errors import UsageError
from ollamaq.modelfile import lint as linter
from ollamaq.modelfile.lint.report import FORMATS
from ollamaq.modelfile.versions import NEWEST, parse_version


@command
def lint(
    paths: Paths = None,
    fix: Annotated[bool, typer.Option("--fix", help="Put right what safely can be, and report the rest.")] = False,
    select: Annotated[
        list[str] | None,
        typer.Option("--select", help="Only rules whose ids begin with this (repeatable).", show_default="all"),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", help="No rules whose ids begin with this (repeatable).", show_default=False),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Check against this model directory or GGUF.", show_default=False),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Check the name that the model is to get too.", show_default=False)
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(
            "--memory",
            parser=amount,
            metavar="SIZE",
            help="With --model: what the server has for it, such as 16G.",
            show_default=False,
        ),
    ] = None,
    ollama: Ollama = NEWEST,
    output_format: Annotated[
        str, typer.Option("--output-format", metavar="FORMAT", help=f"{', '.join(FORMATS)}.")
    ] = "text",
    stdin_filename: StdinFilename = Path("Modelfile"),
) -> None:
    """Find what is wrong in Modelfiles. Exits with 0 if nothing is, 1 if something is, 2 if it cannot tell."""
    if output_format not in FORMATS:
        raise UsageError(f"{output_format!r} is not a format", next_step=f"use {', '.join(FORMATS)}")
    if memory and not model:
        raise UsageError("--memory says nothing without a model", next_step="add --model MODEL")
    rules = linter.choose(select or (), ignore or ())
    settings = linter.Settings(parse_version(ollama), _facts(model), name, memory)
    findings: dict[str, list[linter.Finding]] = {}
    fixed = 0
    for given in inputs(paths, stdin_filename):
        text, directory = given.text, given.name.parent
        if fix and given.intact:
            text, count = linter.fix(text, directory, settings=settings, rules=rules)
            given.put(text)
            fixed += count
        findings[given.name.as_posix()] = linter.lint(text, directory, settings=settings, rules=rules)
    report = FORMATS[output_format](findings)
    if paths == [Path("-")] and fix:  # stdout has the fixed text
        stderr.out(report, end="", highlight=False)
    else:
        print(report, end="")
    total = sum(map(len, findings.values()))
    if output_format == "text":
        stderr.print(_summary(total, fixed, len(findings)))
    if total:
        raise typer.Exit(FINDINGS)


def _facts(model: Path | None) -> linter.ModelFacts | None:
    if model is None:
        return None
    from ollamaq.modelfile.facts import model_facts

    return model_facts(model)


def _summary(total: int, fixed: int, files: int) -> str:
    said = f"{total} {'problem' if total == 1 else 'problems'} in {files} {'file' if files == 1 else 'files'}"
    return f"{said}, {fixed} fixed" if fixed else said
