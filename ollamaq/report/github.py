"""Annotations of GitHub Actions for what failed."""

from __future__ import annotations

from collections.abc import Sequence

from ollamaq.modelfile.lint.report import command
from ollamaq.report.outcome import Outcome


def render(tested: Sequence[Outcome]) -> str:
    """A workflow command for each check that failed, or could not be made."""
    return "".join(
        command("error" if check.blocks else "notice", check.detail, title=f"{one.name}: {check.name}")
        for one in tested
        for check in one.checks
        if not check.ok
    )
