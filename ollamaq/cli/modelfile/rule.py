"""``ollamaq modelfile rule``."""

from __future__ import annotations

from typing import Annotated

import typer

from ollamaq.cli.output import command, stdout, table
from ollamaq.modelfile.lint import choose
from ollamaq.modelfile.lint.explain import explained
from ollamaq.modelfile.lint.table import RULES


@command
def rule(
    rule: Annotated[str | None, typer.Argument(help="An id, such as OQ104.", show_default="list them")] = None,
) -> None:
    """Explain a rule of the linter, in Markdown."""
    if rule:
        print("\n".join(map(explained, choose([rule]))), end="")
    else:
        rows = table("", "", "", "", "")
        for one in RULES:
            rows.add_row(one.id, one.name, one.severity.value, "fixable" if one.fixable else "")
        stdout.print(rows)
