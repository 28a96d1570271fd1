"""What a suite can measure: speed beside another model, memory, embeddings; what is wrong, and what was seen."""

from __future__ import annotations

import math
import statistics
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ollamaq.servers.target import Reply, Target
from ollamaq.sizes import parse_size
from ollamaq.smoke.answers import CannotCheck
from ollamaq.smoke.cases import Case

ROUNDS = 3
"""The two models are asked by turns so often, after once to load them."""


@dataclass(frozen=True)
class Measured:
    """What is wrong, or None; what was seen, in words and in numbers."""

    wrong: str | None
    told: str
    numbers: Mapping[str, float] = field(default_factory=dict)


def measure_speed(target: Target, name: str, wanted: Mapping[str, Any], case: Case) -> Measured:
    """Speed as ratios to a reference model's, by turns in the same run.

    Raises:
        CannotCheck: the server has no such model, or tells no times.
    """
    reference = wanted["reference"]
    if target.digest(reference) is None:
        raise CannotCheck(f"{target.label} has no model {reference} to compare the speed with")
    replies: tuple[list[Reply], list[Reply]] = [], []
    for turn in range(ROUNDS + 1):
        for model, found in zip((name, reference), replies, strict=True):
            reply = target.chat(model, _unseen(case.messages), dict(case.options), **case.request)
            if turn:
                found.append(reply)
    own, other = map(_speeds, replies)
    if not own or not other:
        raise CannotCheck(f"{target.engine} {target.version} does not tell how fast it was")
    rate, first = own[0] / other[0], own[1] / other[1]
    numbers = {"relative_tokens_per_second": rate, "relative_first_token": first}
    told = f"{rate:.2f} times the tokens per second of {reference}, {first:.2f} times its wait for the first"
    if rate < wanted.get("tokens_per_second", 0) or first > wanted.get("first_token", math.inf):
        least = [f"{key} {wanted[key]}" for key in ("tokens_per_second", "first_token") if key in wanted]
        return Measured(f"{told}, where {' and '.join(least)} is allowed", told, numbers)
    return Measured(None, told, numbers)


def _unseen(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages behind a word that no server has seen, lest it answers from what it has kept of the last time."""
    if not messages or not isinstance(messages[0].get("content"), str):
        return list(messages)
    return [{**messages[0], "content": f"[{uuid.uuid4().hex[:8]}] {messages[0]['content']}"}, *messages[1:]]


def _speeds(replies: Sequence[Reply]) -> tuple[float, float] | None:
    """Tokens per second and seconds to the first token: medians."""
    rates = [reply.tokens_per_second for reply in replies if reply.tokens_per_second]
    firsts = [reply.first_token for reply in replies if reply.first_token]
    return (statistics.median(rates), statistics.median(firsts)) if rates and firsts else None


def measure_memory(target: Target, name: str, wanted: str, case: Case) -> Measured:
    """Memory that the loaded model takes.

    Raises:
        Unsupported: the place does not tell it.
    """
    taken = target.loaded(name).size
    told = f"{taken / 1e9:.2f} GB of memory"
    wrong = f"takes {told}, where {wanted} is allowed" if taken > (parse_size(wanted) or 0) else None
    return Measured(wrong, told, {"memory_bytes": taken})


def measure_embeddings(rows: Sequence[Sequence[float]], checks: Mapping[str, Any]) -> Measured:
    """Embeddings of the texts of a case: their length, and the cosine of the first two."""
    lengths = sorted({len(row) for row in rows})
    numbers: dict[str, float] = {"dimension": lengths[-1]}
    told = f"{len(rows)} embeddings of {' or '.join(map(str, lengths))} numbers"
    if not all(math.isfinite(value) for row in rows for value in row) or not all(map(any, rows)):
        return Measured("an embedding is not of finite numbers, or all zero", told)
    if lengths != [checks.get("dimension", lengths[0])]:
        return Measured(f"{told}, not of {checks.get('dimension', lengths[0])}", told, numbers)
    if limits := checks.get("similarity"):
        cosine = sum(a * b for a, b in zip(rows[0], rows[1], strict=True)) / (
            math.hypot(*rows[0]) * math.hypot(*rows[1])
        )
        numbers["similarity"] = cosine
        told += f", the first two with a cosine of {cosine:.3f}"
        if not limits[0] <= cosine <= limits[1]:
            return Measured(f"{told}, where {limits[0]} to {limits[1]} is allowed", told, numbers)
    return Measured(None, told, numbers)
