"""``ollamaq pull``: a model from a registry, from those too that Ollama cannot pull from."""

from __future__ import annotations

from dataclasses import asdict

from rich.markup import escape

from ollamaq.cli.options import (
    CaFile,
    Gpu,
    Image,
    Insecure,
    Json,
    LocalName,
    PackageDirectory,
    Parallel,
    Port,
    Quiet,
    Reference,
    To,
)
from ollamaq.cli.output import Output, command, size
from ollamaq.registry.pull import Pulled
from ollamaq.registry.pull import pull as run_pull
from ollamaq.registry.push import PARALLEL
from ollamaq.servers import DEFAULT_IMAGE


@command
def pull(
    reference: Reference,
    name: LocalName = None,
    to: To = "auto",
    output: PackageDirectory = None,
    insecure: Insecure = False,
    ca_file: CaFile = None,
    parallel: Parallel = PARALLEL,
    image: Image = DEFAULT_IMAGE,
    gpu: Gpu = False,
    port: Port = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch a model from a registry, verify it, and put it where it can run."""
    out = Output(as_json=as_json, quiet=quiet)
    with out.progress() as progress:
        pulled = run_pull(
            reference,
            name,
            to=to,
            output=output,
            insecure=insecure,
            ca_file=ca_file,
            parallel=parallel,
            progress=progress,
            image=image,
            gpu=gpu,
            port=port,
        )
    out.result(asdict(pulled), ending(pulled), brief=pulled.name)


def ending(pulled: Pulled) -> str:
    """Where a model is now."""
    told = f"{size(pulled.fetched)} of {size(pulled.size)} fetched"
    return f"put [bold]{escape(pulled.name)}[/] into {escape(pulled.place)}: {told}"
