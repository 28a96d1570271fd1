"""A package tried where it is to run: created under its staging name, smoke-tested, and held to the gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ollamaq.chat.jinja import ChatFormat
from ollamaq.gate import Gate
from ollamaq.package import Package
from ollamaq.promotion import Staging
from ollamaq.release import Planned
from ollamaq.servers import Progress
from ollamaq.smoke import Case, CheckResult, run_smoke


@dataclass(frozen=True)
class Trial:
    """What every model of a publish is asked, and held to; the arguments are those of `smoke.run_smoke`."""

    prompts: Sequence[str] | None
    expect: str | None
    tokenize: Callable[[str], list[int]] | None
    cases: Sequence[Case]
    gate: Gate

    def on(
        self, stage: Staging, item: Planned, built: Package, trained: ChatFormat | None, progress: Progress
    ) -> tuple[bool, list[CheckResult]]:
        """Whether the GGUF had to be sent to the target, and what was seen of it there."""
        staged = stage.stage(item.name)
        sent = stage.target.create(staged, built.gguf, built.sha256, built.modelfile, progress, built.projector)
        progress("smoke test", 0, 0)
        checks = run_smoke(
            stage.target,
            staged,
            trained,
            prompts=self.prompts,
            expect=self.expect,
            tokenize=self.tokenize,
            sees=built.projector is not None,
            cases=self.cases,
        )
        bits = item.plan.bits_per_weight
        return sent, self.gate.judged(
            checks, size=built.size, bits_per_weight=bits, target=stage.target, staged=staged, final=item.name
        )

    def of_package(self, item: Planned, built: Package) -> list[CheckResult]:
        """What the gate says of a package that is tried nowhere."""
        return self.gate.judged((), size=built.size, bits_per_weight=item.plan.bits_per_weight)
