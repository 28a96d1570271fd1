"""A report in Markdown, as GitHub shows it in the summary of a run."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from ollamaq.modelfile.printable import printed
from ollamaq.report.outcome import Outcome

MARKS = {True: "✅ pass", False: "❌ **fail**", None: "➖ not checked"}


def render(tested: Sequence[Outcome]) -> str:
    """A heading and a table for each model."""
    return "".join(_model(one) for one in tested)


def _model(one: Outcome) -> str:
    verdict = "passed" if one.passed else f"failed {len(one.failed)} of {len(one.checks)} checks"
    lines = [f"### {'✅' if one.passed else '❌'} {_cell(one.name)} {verdict}", "", f"Tested on {_cell(one.target)}."]
    if one.bytes:
        lines[-1] += f" {one.bytes / 1e6:.1f} MB, {one.release['bits_per_weight']:.2f} bits per weight."
    lines += ["", "| check | | time | seen |", "|---|---|--:|---|"]
    lines += [
        f"| {_cell(check.name)} | {MARKS[check.ok]} | {check.seconds:.1f} s | {_cell(check.detail)} |"
        for check in one.checks
    ]
    return "\n".join(lines) + "\n\n"


def _cell(text: str) -> str:
    """Text that is neither Markdown nor HTML nor the end of a cell."""
    plain = html.escape(" ".join(printed(text).split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]|#@~])", r"\\\1", plain)
