"""A report as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from ollamaq.report.outcome import Outcome

SCHEMA_VERSION = 1


def render(tested: Sequence[Outcome]) -> str:
    """One document, with everything in it."""
    models = [
        {
            "name": one.name,
            "target": one.target,
            "passed": one.passed,
            "checks": [asdict(check) for check in one.checks],
            "release": dict(one.release),
        }
        for one in tested
    ]
    return json.dumps({"schema_version": SCHEMA_VERSION, "models": models}, ensure_ascii=False, indent=2) + "\n"
