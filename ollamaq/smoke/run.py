"""A suite run against a model: each case asked as often as it says, one result for each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ollamaq.errors import OllamaqError
from ollamaq.ollama.client import ServerGone
from ollamaq.servers.target import Reply, Target, Unsupported
from ollamaq.smoke.answers import CannotCheck, wrong_reply
from ollamaq.smoke.cases import Case
from ollamaq.smoke.checks import quoted
from ollamaq.smoke.measure import Measured, measure_embeddings, measure_memory, measure_speed
from ollamaq.smoke.needle import hidden
from ollamaq.smoke.result import CheckResult


def run_suite(
    target: Target, name: str, cases: Sequence[Case], special_tokens: Sequence[str] = ()
) -> list[CheckResult]:
    """Ask a model every case. What goes wrong fails a case; only a server that is gone ends the suite.

    Args:
        target: where it runs.
        name: the model.
        cases: as `cases.read_suite` gives them.
        special_tokens: texts that no answer may show, beside the usual marks of chat formats.

    Raises:
        ServerGone: the server cannot be reached any more.
    """
    return [_result(target, name, case, list(special_tokens)) for case in cases]


def _result(target: Target, name: str, case: Case, special_tokens: list[str]) -> CheckResult:
    started, seen = time.monotonic(), _Seen()
    ok: bool | None = True
    try:
        detail = _verdict(target, name, case, special_tokens, seen)
    except ServerGone:
        raise
    except (CannotCheck, Unsupported) as why:
        ok, detail = None, str(why)
    except (_Wrong, OllamaqError) as wrong:
        ok, detail = False, str(wrong)
    seconds = time.monotonic() - started
    return CheckResult(
        case.name,
        ok,
        detail,
        seconds,
        case=case.name,
        attempts=case.attempts,
        passed=seen.passed,
        pass_rate=case.pass_rate,
        measured=seen.measured,
    )


class _Wrong(Exception):
    """What is wrong with a case."""


@dataclass
class _Seen:
    """What reports need of a case, whether it passes or not."""

    passed: int | None = None
    measured: dict[str, float] = field(default_factory=dict)


def _verdict(target: Target, name: str, case: Case, special_tokens: list[str], seen: _Seen) -> str:
    """What was seen of a case that passed.

    Raises:
        _Wrong: it did not pass.
        CannotCheck: it was not to be checked here.
    """
    if case.needle:
        case = hidden(target, name, case)
    told = _embedded(target, name, case, seen) if case.embed else _answered(target, name, case, special_tokens, seen)
    for key, measure in (("speed", measure_speed), ("memory", measure_memory)):
        if key in case.checks:
            told += f"; {_held(measure(target, name, case.checks[key], case), seen)}"
    return told


def _held(measured: Measured, seen: _Seen) -> str:
    seen.measured |= measured.numbers
    if measured.wrong:
        raise _Wrong(measured.wrong)
    return measured.told


def _embedded(target: Target, name: str, case: Case, seen: _Seen) -> str:
    return _held(measure_embeddings(target.embed(name, case.embed), case.checks), seen)


def _answered(target: Target, name: str, case: Case, special_tokens: list[str], seen: _Seen) -> str:
    wrongs: list[str | None] = []
    replies: list[Reply] = []
    for attempt in range(case.attempts):
        options = dict(case.options) | {"seed": case.options.get("seed", 0) + attempt}

        def ask(_: int, options: dict[str, object] = options) -> Reply:
            return target.chat(name, case.messages, options, **case.request)

        if case.concurrent > 1:
            with ThreadPoolExecutor(case.concurrent) as pool:
                asked = list(pool.map(ask, range(case.concurrent)))
        else:
            asked = [ask(0)]
        replies += asked
        found = [wrong for reply in asked if (wrong := wrong_reply(reply, case.checks, special_tokens))]
        wrongs.append(found[0] if found else None)
    seen.passed = passed = wrongs.count(None)
    for number, values in (
        ("tokens_per_second", [reply.tokens_per_second for reply in replies]),
        ("first_token_seconds", [reply.first_token for reply in replies]),
    ):
        if known := [value for value in values if value is not None]:
            seen.measured[number] = statistics.median(known)
    first = next((wrong for wrong in wrongs if wrong), None)
    if passed < case.pass_rate * case.attempts:
        raise _Wrong(f"{passed} of {case.attempts} attempts pass: {first}" if case.attempts > 1 else first)
    told = quoted(replies[0].text or str([call.name for call in replies[0].tool_calls]))
    if case.attempts > 1:
        told = f"{passed} of {case.attempts} attempts pass, such as {told}"
    if case.concurrent > 1:
        seconds = statistics.median(reply.seconds for reply in replies)
        told = f"{case.concurrent} at once, {seconds:.1f} s each: {told}"
    return told
