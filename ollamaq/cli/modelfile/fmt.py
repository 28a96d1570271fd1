"""``ollamaq modelfile fmt``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ollamaq.cli.modelfile.inputs import FINDINGS, Paths, StdinFilename, inputs
from ollamaq.cli.output import command, failure, stderr
from ollamaq.errors import UsageError
from ollamaq.modelfile.format import formatted
from ollamaq.modelfile.parser import ModelfileError, parse


@command
def fmt(
    paths: Paths = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit with 1 if something would.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Change nothing; print what would, exit with 1 then.")] = False,
    stdin_filename: StdinFilename = Path("Modelfile"),
) -> None:
    """Write Modelfiles in one style; what Ollama reads in them stays the same."""
    changed = same = 0
    broken: list[UsageError] = []
    for given in inputs(paths, stdin_filename):
        if not given.intact:
            broken.append(UsageError(f"{given.name} has bytes that are not UTF-8", next_step="save it as UTF-8"))
            continue
        try:
            text = formatted(parse(given.text, given.encoding))
        except ModelfileError as error:
            broken.append(UsageError(f"{given.name}: {error}", next_step=error.next_step))
            continue
        changed, same = changed + (text != given.text), same + (text == given.text)
        if diff:
            print(given.diff(text), end="")
        elif not check:
            given.put(text)
        elif text != given.text:
            print(f"would reformat {given.name}")
    would = "would be " if check or diff else ""
    stderr.print(f"{changed} {would}reformatted, {same} left as {'it is' if same == 1 else 'they are'}")
    if exits := [failure(error) for error in broken]:
        raise exits[0]
    if changed and (check or diff):
        raise typer.Exit(FINDINGS)
