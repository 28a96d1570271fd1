"""``ollamaq bundle`` and ``ollamaq install``: a model as one file, for machines without a network."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ollamaq.cli.options import Gpu, Image, Json, LocalName, ModelSource, PackageDirectory, Port, Quiet, To
from ollamaq.cli.output import Output, command, size
from ollamaq.cli.pull import ending
from ollamaq.registry.pull import install as run_install
from ollamaq.registry.sources import bundle as run_bundle
from ollamaq.servers import DEFAULT_IMAGE


@command
def bundle(
    source: ModelSource,
    file: Annotated[Path, typer.Argument(help="The bundle to write: bot.tar", show_default=False)],
    name: Annotated[
        str | None,
        typer.Option("--name", help="What the model is to be called.", show_default="what it is called here"),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a model into one file (a tar of an OCI image layout), which `install` and `push` read."""
    out = Output(as_json=as_json, quiet=quiet)
    with out.progress() as progress:
        made = run_bundle(source, file, name, progress=progress)
    told = f"wrote [bold]{escape(str(file))}[/] ({size(made.bytes)}); take it along and: ollamaq install {file.name}"
    out.result(asdict(made) | {"file": str(file)}, told, brief=str(file))


@command
def install(
    file: Annotated[Path, typer.Argument(help="A bundle.", show_default=False)],
    name: LocalName = None,
    to: To = "auto",
    output: PackageDirectory = None,
    image: Image = DEFAULT_IMAGE,
    gpu: Gpu = False,
    port: Port = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Verify a bundle, and put its model where it can run."""
    out = Output(as_json=as_json, quiet=quiet)
    with out.progress() as progress:
        installed = run_install(file, name, to=to, output=output, progress=progress, image=image, gpu=gpu, port=port)
    out.result(asdict(installed), ending(installed), brief=installed.name)
