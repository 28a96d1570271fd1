"""What was seen of a model, for people and machines that were not there: JUnit, Markdown, HTML, GitHub annotations."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ollamaq.errors import UsageError
from ollamaq.files import write_text
from ollamaq.report import github, html, junit, markdown, plain
from ollamaq.report.outcome import Outcome

__all__ = ["FORMATS", "Outcome", "check_reports", "step_summary", "write_reports"]

FORMATS: dict[str, Callable[[Sequence[Outcome]], str]] = {
    ".json": plain.render,
    ".xml": junit.render,
    ".md": markdown.render,
    ".html": html.render,
}
"""By the ending of a report's name."""


def check_reports(paths: Sequence[Path]) -> None:
    """See that each report is of a kind that can be written.

    Raises:
        UsageError: one is not.
    """
    for path in paths:
        if path.suffix.lower() not in FORMATS:
            raise UsageError(
                f"{path} is no report that can be written", next_step=f"end its name in {', '.join(FORMATS)}"
            )


def write_reports(paths: Sequence[Path], tested: Sequence[Outcome]) -> None:
    """Write a report to each path, in the format of its ending."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, FORMATS[path.suffix.lower()](tested))


def step_summary(tested: Sequence[Outcome]) -> str:
    """What to print in a workflow of GitHub Actions, whose summary gets the table; nothing elsewhere."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return ""
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(markdown.render(tested))
    return github.render(tested)
