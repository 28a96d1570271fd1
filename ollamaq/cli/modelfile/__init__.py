"""``ollamaq modelfile``: Modelfiles made, checked, formatted, compared and explained."""

from __future__ import annotations

import typer

from ollamaq.cli.modelfile.diff import diff
from ollamaq.cli.modelfile.drift import drift
from ollamaq.cli.modelfile.explain import explain
from ollamaq.cli.modelfile.fmt import fmt
from ollamaq.cli.modelfile.init import init
from ollamaq.cli.modelfile.lint import lint
from ollamaq.cli.modelfile.pull import pull
from ollamaq.cli.modelfile.render import render
from ollamaq.cli.modelfile.rule import rule

modelfile = typer.Typer(help="Make, lint, format, compare and explain Modelfiles.", no_args_is_help=True)
for run in (init, render, lint, fmt, diff, drift, pull, explain, rule):
    modelfile.command()(run)
