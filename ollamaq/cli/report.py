"""Reports of what was tested, written where the command line or a workflow wants them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ollamaq.cli.output import Output
from ollamaq.report import Outcome, step_summary, write_reports


def write_all(out: Output, tested: Sequence[Outcome], paths: Sequence[Path] | None) -> None:
    """Write reports to files, and to the run of GitHub Actions that this is part of, if it is."""
    write_reports(paths or (), tested)
    sys.stderr.write(step_summary(tested))
    for path in paths or ():
        out.note(f"report: {path}")
