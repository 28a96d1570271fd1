"""``ollamaq rollback``: the version before, back under its name."""

from __future__ import annotations

from typing import Annotated

import typer

from ollamaq.cli.options import DryRun, Image, Json, Quiet, To
from ollamaq.cli.output import Output, command, table
from ollamaq.ollama.names import parse_name
from ollamaq.promotion import kept_versions, versions_before
from ollamaq.promotion import rollback as run_rollback
from ollamaq.servers import DEFAULT_IMAGE, Target, open_target

SHORT = 12
"""Digits of a digest, as `ollama list` shows it."""


@command
def rollback(
    name: Annotated[str, typer.Argument(help="The model whose version before shall come back.", show_default=False)],
    to: To = "auto",
    image: Image = DEFAULT_IMAGE,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Bring back the version of a model that `publish --keep` has kept; the present one becomes the oldest kept."""
    out = Output(as_json=as_json, quiet=quiet)
    name = str(parse_name(name))
    with open_target(to, image=image) as target, out.progress() as progress:
        if dry_run:
            _say(out, target, name)
            return
        before, now = run_rollback(target, name, progress=progress)
        kept = {version: target.digest(version) for version in kept_versions(target, name)}
    data = {"name": name, "target": target.label, "before": before, "digest": now, "kept": kept}
    was = f"was {before[:SHORT]}" if before else "was not there"
    out.result(data, f"[bold]{name}[/] is {now[:SHORT]} again ({was})", brief=name)


def _say(out: Output, target: Target, name: str) -> None:
    versions = {version: target.digest(version) for version in (name, *versions_before(target, name))}
    rows = table(f"versions of {name} on {target.label}; the second would become the first", "name", "digest")
    for version, digest in versions.items():
        rows.add_row(version, (digest or "none")[:SHORT])
    out.result({"dry_run": True, "name": name, "target": target.label, "versions": versions}, rows, brief=name)
