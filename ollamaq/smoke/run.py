"""A suite run against a model: each case asked as often as it says, one result for each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ollamaq.errors import OllamaqError
from ollamaq.ollama.client import ServerGone
from ollamaq.servers.target import Reply, Target, Unsupported
from ollamaq.smoke.answers import CannotCheck, wrong_reply
from ollamaq.smoke.cases import Case
from ollamaq.smoke.checks import quoted
from ollamaq.smoke.measure import wrong_embeddings, wrong_memory, wrong_speed
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
    started = time.monotonic()
    ok: bool | None = True
    try:
        detail = _verdict(target, name, case, special_tokens)
    except ServerGone:
        raise
    except (CannotCheck, Unsupported) as why:
        ok, detail = None, str(why)
    except (_Wrong, OllamaqError) as wrong:
        ok, detail = False, str(wrong)
    return CheckResult(case.name, ok, detail, time.monotonic() - started)


class _Wrong(Exception):
    """What is wrong with a case."""


def _verdict(target: Target, name: str, case: Case, special_tokens: list[str]) -> str:
    """What was seen of a case that passed.

    Raises:
        _Wrong: it did not pass.
        CannotCheck: it was not to be checked here.
    """
    seen = _embedded(target, name, case) if case.embed else _answered(target, name, case, special_tokens)
    for key, measure in (("speed", wrong_speed), ("memory", wrong_memory)):
        if key in case.checks:
            wrong, told = measure(target, name, case.checks[key], case)
            if wrong:
                raise _Wrong(wrong)
            seen += f"; {told}"
    return seen


def _embedded(target: Target, name: str, case: Case) -> str:
    wrong, told = wrong_embeddings(target.embed(name, case.embed), case.checks)
    if wrong:
        raise _Wrong(wrong)
    return told


def _answered(target: Target, name: str, case: Case, special_tokens: list[str]) -> str:
    if case.needle:
        case = hidden(target, name, case)
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
    passed = wrongs.count(None)
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
