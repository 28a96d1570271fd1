"""The gate between a tested model and its name: what a team's ``ollamaq.toml`` asks for beyond passing checks.

Each demand becomes a check of its own, so that it is shown, reported, and fails the model as any other does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamaq.errors import OllamaqError, UsageError
from ollamaq.servers import Target
from ollamaq.sizes import parse_size
from ollamaq.smoke import DIFFERING, Case, CheckResult
from ollamaq.smoke.answers import CannotCheck
from ollamaq.smoke.cases import OPTIONS
from ollamaq.smoke.measure import measure_speed
from ollamaq.team.files import find_catalogue, read_catalogue, section

PREFIX = "gate: "
_WRONG: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_size": (lambda value: parse_size(value) is None, "an amount such as 2GB"),
    "pass_rate": (lambda value: not 0 <= value <= 1, "a share from 0 to 1"),
    "max_slowdown": (lambda value: value <= 0, "a number of times, such as 1.2"),
    "max_differing_prompts": (lambda value: value < 0, "how many conversations, such as 12"),
}
QUESTION = Case("speed", messages=({"role": "user", "content": "Tell me a short story."},), options=OPTIONS)


@dataclass(frozen=True)
class Gate:
    """What the table ``gate`` of ``file`` says; see its schema in ``team/schema.py``."""

    file: str = ""
    required: tuple[str, ...] = ()
    pass_rate: float = 1.0
    max_size: str | None = None
    max_bits_per_weight: float | None = None
    max_slowdown: float | None = None
    max_differing_prompts: int = 0

    def judged(
        self,
        checks: Sequence[CheckResult],
        *,
        size: int | None = None,
        bits_per_weight: float | None = None,
        target: Target | None = None,
        staged: str = "",
        final: str = "",
    ) -> list[CheckResult]:
        """The checks, and one for each demand; cases that ``pass_rate`` lets fail are marked as tolerated.

        Args:
            checks: what was seen so far; none where only a package was made, which passes no required check then.
            size: bytes of the model.
            bits_per_weight: of the model.
            target: where it runs.
            staged: its name there.
            final: the name under which its version before is there, which must not have been much faster.
        """
        if checks and not checks[0].ok:
            return list(checks)
        checks = self._tolerated(checks)
        wanted: list[CheckResult] = [self._required(name, checks) for name in self.required]
        if self.max_size is not None and size is not None:
            limit = parse_size(self.max_size) or 0
            wanted.append(self._limit("max_size", size <= limit, f"{size} bytes", f"{self.max_size} ({limit} bytes)"))
        if self.max_bits_per_weight is not None and bits_per_weight is not None:
            allowed = self.max_bits_per_weight
            wanted.append(
                self._limit("max_bits_per_weight", bits_per_weight <= allowed, f"{bits_per_weight:.2f}", f"{allowed}")
            )
        if self.max_slowdown is not None and target:
            wanted.append(self._slowdown(self.max_slowdown, target, staged, final))
        return [*checks, *wanted]

    def _tolerated(self, checks: Sequence[CheckResult]) -> list[CheckResult]:
        """With failures forgiven: of a suite's own cases, if enough of them pass, and of prompts, if few differ."""
        checks = [
            dataclasses.replace(check, tolerated=True)
            if check.ok is False and 0 < check.measured.get(DIFFERING, 0) <= self.max_differing_prompts
            else check
            for check in checks
        ]
        cases = [check for check in checks if check.case is not None and check.ok is not None]
        failed = [check for check in cases if check.ok is False and check.name not in self.required]
        if not failed or len(cases) - len(failed) < self.pass_rate * len(cases):
            return checks
        return [dataclasses.replace(check, tolerated=True) if check in failed else check for check in checks]

    def _required(self, name: str, checks: Sequence[CheckResult]) -> CheckResult:
        found = [check for check in checks if check.name == name]
        label = f"{PREFIX}{name} required"
        if not found:
            return CheckResult(label, False, f"no check {name!r} was made, which {self.file}: gate.required wants")
        if found[0].ok is None:
            return CheckResult(label, False, f"{name} was not checked: {found[0].detail}")
        return CheckResult(label, found[0].ok, f"{name} {'passes' if found[0].ok else 'fails'}")

    def _limit(self, key: str, ok: bool, seen: str, allowed: str) -> CheckResult:
        told = f"{seen}, where {self.file}: gate.{key} allows {allowed}"
        return CheckResult(f"{PREFIX}{key}", ok, told)

    def _slowdown(self, allowed: float, target: Target, staged: str, final: str) -> CheckResult:
        label = f"{PREFIX}max_slowdown"
        try:
            if (before := target.digest(final)) is None:
                return CheckResult(label, None, f"{target.label} has no {final} to compare the speed with")
            if before == target.digest(staged):  # noise would be all that there is to see
                return CheckResult(label, True, f"{final} on {target.label} is the same model")
            measured = measure_speed(target, staged, {"reference": final}, QUESTION)
        except (CannotCheck, OllamaqError) as why:
            return CheckResult(label, False, str(why))
        rate = measured.numbers["relative_tokens_per_second"]
        return self._limit("max_slowdown", rate * allowed >= 1, measured.told, f"{allowed} times slower")


def read_gate(start: Path = Path()) -> Gate:
    """The gate of the catalogue in a directory or above; one that asks for nothing where there is none.

    Raises:
        UsageError: the catalogue cannot be read, or is not as its schema says.
    """
    if (file := find_catalogue(start.absolute())) is None:
        return Gate()
    table = read_catalogue(file).get("gate", {})
    for key, (wrong, wanted) in _WRONG.items():
        if key in table and wrong(table[key]):
            raise UsageError(f"{file}: gate.{key} is {table[key]!r}", next_step=f"give {wanted}")
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return Gate(**given | {"file": f"{file.name}: {section(file)}".rstrip(": ")})
