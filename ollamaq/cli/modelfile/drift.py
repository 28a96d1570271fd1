"""``ollamaq modelfile drift``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.text import Text

from ollamaq.cli.modelfile.diff import COLOURS
from ollamaq.cli.modelfile.inputs import FINDINGS, Env, Models
from ollamaq.cli.options import Json, Quiet
from ollamaq.cli.output import Output, command, stderr
from ollamaq.modelfile.diff import Change
from ollamaq.modelfile.printable import printed


@command
def drift(
    names: Models = None,
    env: Env = "",
    server: Annotated[str, typer.Option("--server", envvar="OLLAMA_HOST", help="The server to compare with.")] = "",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare a team's catalogue with what a server has. Exits with 0 if it is the same, 1 if not.

    Without NAMES every model is compared, and one that the server does not have has drifted too.
    """
    from ollamaq.ollama.client import Client, ModelNotFound
    from ollamaq.ollama.host import parse_host
    from ollamaq.team.catalogue import catalogue
    from ollamaq.team.drift import drift as compared
    from ollamaq.team.places import find_team

    models = catalogue(find_team(), names or (), env)
    with Client(parse_host(server)) as client:

        def show(name: str) -> Mapping[str, Any] | None:
            try:
                return client.show(name)
            except ModelNotFound:
                return None

        found = [compared(model, show) for model in models]
    drifted = [one for one in found if one.found]
    data = [
        {
            "model": one.label,
            "name": one.name,
            "missing": one.missing,
            "changes": _plain(one.changes),
            "brought": _plain(one.brought),
        }
        for one in found
    ]
    lines: list[Text] = []
    for one in drifted:
        lines.append(Text(f"{one.name} ({one.label})" + (" is not on the server" if one.missing else ""), "bold"))
        lines += [Text(printed(line), COLOURS.get(line[:1], "")) for change in one.changes for line in change.lines()]
    brief = "\n".join(one.name for one in drifted)
    Output(as_json=as_json, quiet=quiet).result({"models": data}, *lines, brief=brief)
    if not (as_json or quiet):
        stderr.print(f"{len(drifted)} of {len(found)} drifted")
    if drifted:
        raise typer.Exit(FINDINGS)


def _plain(changes: Sequence[Change]) -> list[dict[str, Any]]:
    return [{"what": change.key, "catalogue": [*change.old], "server": [*change.new]} for change in changes]
