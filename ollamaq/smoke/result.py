"""What a check saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DIFFERING = "differing_prompts"
"""How many conversations are prompted otherwise than in training, in ``measured``."""


@dataclass(frozen=True)
class CheckResult:
    """What a check saw; ``ok`` is None where it could not be made here, and ``detail`` says why.

    ``case`` is the case of a suite that it belongs to, None for the checks that every model gets. Where a case is asked
    several times, ``passed`` of ``attempts`` answers were right, and the share ``pass_rate`` had to be. ``measured``
    has numbers by name: ``tokens_per_second``, ``first_token_seconds``, ``memory_bytes``, …. A failure is ``tolerated``
    where the gate lets so many pass.
    """

    name: str
    ok: bool | None
    detail: str
    seconds: float = 0.0
    case: str | None = None
    attempts: int = 1
    passed: int | None = None
    pass_rate: float = 1.0
    measured: Mapping[str, float] = field(default_factory=dict)
    tolerated: bool = False

    @property
    def blocks(self) -> bool:
        """Whether it keeps the model from its name."""
        return self.ok is False and not self.tolerated
