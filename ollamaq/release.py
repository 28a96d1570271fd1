"""What publishing comes to: a release for each mix, planned, made, tested and named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ollamaq import package
from ollamaq.errors import GateFailed
from ollamaq.quantize import Plan
from ollamaq.servers import Target
from ollamaq.smoke import CheckResult


@dataclass(frozen=True)
class Release:
    """What publishing one mix came to; ``target`` is None where the package was only built.

    ``sent`` tells whether the GGUF had to be sent or was there already; ``digest`` is that of the published manifest.
    ``template`` tells the strategy by which it is prompted, and why.
    """

    name: str
    mix: str
    package: Path
    source_bytes: int
    bytes: int
    bits_per_weight: float
    target: str | None = None
    sent: bool | None = None
    digest: str | None = None
    checks: tuple[CheckResult, ...] = ()
    template: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    pushed: str | None = None

    @property
    def passed(self) -> bool:
        return not any(check.blocks for check in self.checks)

    def tested(self, target: Target, sent: bool, checks: Sequence[CheckResult]) -> Release:
        """With what was seen on one more target."""
        label = f"{self.target}, {target.label}" if self.target else target.label
        return replace(self, target=label, sent=bool(self.sent or sent), checks=(*self.checks, *checks))


class PublishFailed(GateFailed):
    """A smoke test or a gate failed; ``releases`` tell which, and where the packages lie. Nothing was published."""

    def __init__(self, releases: Sequence[Release]) -> None:
        self.releases = tuple(releases)
        broken = [f"{check.name} ({release.mix})" for release in releases for check in release.checks if check.blocks]
        super().__init__(
            f"checks failed: {', '.join(broken)}; nothing was published",
            next_step=f"see {self.releases[-1].package / package.RELEASE}, mend the model, and publish again",
        )


@dataclass(frozen=True)
class Planned:
    """One mix of a model, before anything is done: the name it will have, its plan, and where its package goes."""

    name: str
    mix: str
    plan: Plan
    directory: Path
