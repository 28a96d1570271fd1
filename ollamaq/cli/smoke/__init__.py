"""``ollamaq smoke``: models tested where they run, and suites recorded to test them with."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from ollamaq.cli.smoke.record import record
from ollamaq.cli.smoke.run import run


class _Tests(TyperGroup):
    """``ollamaq smoke NAME`` is short for ``ollamaq smoke run NAME``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


smoke = typer.Typer(
    help="Test a model where it runs: `ollamaq smoke NAME`; or record a suite to test it with.",
    cls=_Tests,
    no_args_is_help=True,
)
for one in (run, record):
    smoke.command()(one)
