"""``ollamaq verify`` and ``ollamaq sign``: packages, and the models made of them, beside what was published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ollamaq.cli.options import CaFile, Image, Insecure, Json, Quiet, To
from ollamaq.cli.output import Output, command, described, failure, plain
from ollamaq.errors import GateFailed, UsageError
from ollamaq.package import sign_package
from ollamaq.servers import DEFAULT_IMAGE, open_target
from ollamaq.verify import differences_of_model, differences_of_package, differences_of_reference

PackagePath = Annotated[Path, typer.Argument(help="The directory of a package.", show_default=False)]


@command
def verify(
    package: PackagePath,
    name: Annotated[
        str | None,
        typer.Argument(help="A model on a server or in a registry, to compare with the package.", show_default=False),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", help="The public ed25519 key that must have signed it.", show_default=False),
    ] = None,
    registry: Annotated[
        bool, typer.Option("--registry", help="The model is in a registry: ghcr.io/team/bot:q5_K_M.")
    ] = False,
    insecure: Insecure = False,
    ca_file: CaFile = None,
    to: To = "auto",
    image: Image = DEFAULT_IMAGE,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """See whether a package, and the model of that name on a server or in a registry, is what was published."""
    if registry and not name:
        raise UsageError("--registry says nothing without a model", next_step="name it behind the package")
    out = Output(as_json=as_json, quiet=quiet)
    found = list(differences_of_package(package, key))
    if name and registry:
        differences = differences_of_reference(package, name, insecure=insecure, ca_file=ca_file)
        found += [f"{name}: {text}" for text in differences]
    elif name:
        with open_target(to, image=image) as target:
            found += [f"{name} on {target.label}: {text}" for text in differences_of_model(package, target, name)]
    data = {"package": str(package), "name": name, "signed_by": str(key) if key else None, "differences": found}
    if found:
        error = GateFailed(
            f"{package} is not what was published", next_step="publish again, or find out who changed it"
        )
        out.result(data | described(error), *map(plain, found), brief="")
        raise failure(error)
    out.result(data, f"{name or package} is what was published" + (f", signed by {key}" if key else ""), brief="")


@command
def sign(
    package: PackagePath,
    key: Annotated[
        Path, typer.Option("--key", help="A private ed25519 key of ssh-keygen or openssl.", show_default=False)
    ],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Sign a package's provenance."""
    sign_package(package, key)
    said = f"signed [bold]{package}/[/]"
    Output(as_json=as_json, quiet=quiet).result({"package": str(package)}, said, brief=str(package))
