"""A model that was tested: what all reports are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ollamaq.smoke import CheckResult

VERDICTS = {True: "pass", False: "FAIL", None: "not checked"}


@dataclass(frozen=True)
class Outcome:
    """A model, where it was tested, and what was seen; ``release`` is what its ``release.json`` says, if it has one."""

    name: str
    target: str
    checks: Sequence[CheckResult]
    release: Mapping[str, Any] = field(default_factory=dict)
    source_bytes: int | None = None

    @property
    def failed(self) -> list[CheckResult]:
        return [check for check in self.checks if check.blocks]

    @property
    def passed(self) -> bool:
        return not self.failed

    @property
    def bytes(self) -> int | None:
        """Of the GGUF."""
        found: int | None = self.release.get("gguf", {}).get("bytes")
        return found
