"""``ollamaq push``: a package, a bundle or a model of this machine into a registry."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.markup import escape

from ollamaq.cli.options import CaFile, ChunkSize, DryRun, Insecure, Json, ModelSource, Parallel, Quiet, Reference
from ollamaq.cli.output import Output, command, size, table
from ollamaq.registry.push import PARALLEL, Pushed
from ollamaq.registry.push import push as run_push


@command
def push(
    source: ModelSource,
    reference: Reference,
    insecure: Insecure = False,
    ca_file: CaFile = None,
    parallel: Parallel = PARALLEL,
    chunk_size: ChunkSize = "64M",  # type: ignore[assignment]
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Send a model to a registry; what an interrupted push has sent is not sent again."""
    out = Output(as_json=as_json, quiet=quiet)
    with out.progress() as progress:
        pushed = run_push(
            source,
            reference,
            insecure=insecure,
            ca_file=ca_file,
            parallel=parallel,
            chunk=chunk_size,
            dry_run=dry_run,
            progress=progress,
        )
    layers = table("", "layer", ">size", "", "digest")
    for blob in pushed.blobs:
        layers.add_row(escape(blob.kind), size(blob.size), blob.how, blob.digest[:19])
    ending = (
        f"\npushed [bold]{pushed.reference}[/] ({pushed.digest[:19]}): {size(pushed.sent)} of {size(pushed.size)} sent"
    )
    if dry_run:
        missing = sum(blob.size for blob in pushed.blobs if blob.how == "missing")
        ending = f"\nwould send {size(missing)} of {size(pushed.size)} to [bold]{pushed.reference}[/]"
    out.result(_as_json(pushed, dry_run), layers, ending, brief=pushed.reference)


def _as_json(pushed: Pushed, dry_run: bool) -> dict[str, Any]:
    data = asdict(pushed) | {"sent": pushed.sent}
    if dry_run:
        data |= {"dry_run": True, "digest": None}
    return data
