"""``ollamaq modelfile render``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ollamaq.cli.modelfile.inputs import FINDINGS, Env, Models, unified
from ollamaq.cli.output import command, stderr
from ollamaq.errors import UsageError
from ollamaq.files import write_text
from ollamaq.modelfile.parser import read_bytes


@command
def render(
    names: Models = None,
    all_: Annotated[bool, typer.Option("--all", help="Every model of the catalogue.")] = False,
    env: Env = "",
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; print what would change, and exit with 1 if something would."),
    ] = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="Print the Modelfile instead of writing it.")] = False,
) -> None:
    """Write the Modelfiles of a team's models from their presets."""
    from ollamaq.team.catalogue import catalogue, rendered
    from ollamaq.team.places import find_team

    if bool(names) == all_:
        raise UsageError("render takes names of models, or --all", next_step="see `ollamaq config` for the models")
    files = rendered(catalogue(find_team(), names or (), env))
    if stdout:
        print("\n".join(files.values()), end="")
        return
    old = {path: _read(path) for path in files}
    changed = [path for path, text in files.items() if old[path] != text.encode()]
    for path in changed:
        if check:
            print(unified(path, old[path].decode(errors="replace"), files[path]), end="")
        else:
            write_text(path, files[path])
    would = "would be " if check else ""
    stderr.print(f"{len(changed)} {would}written, {len(files) - len(changed)} up to date")
    if check and changed:
        raise typer.Exit(FINDINGS)


def _read(path: Path) -> bytes:
    return read_bytes(path) if path.exists() else b""
