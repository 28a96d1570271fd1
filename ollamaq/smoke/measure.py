"""What a suite can measure: speed beside another model, memory, embeddings; what is wrong, and what was seen."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ollamaq.servers.target import Reply, Target
from ollamaq.sizes import parse_size
from ollamaq.smoke.answers import CannotCheck
from ollamaq.smoke.cases import Case

ROUNDS = 3
"""The two models are asked by turns so often, after once to load them."""

Measured = tuple[str | None, str]


def wrong_speed(target: Target, name: str, wanted: Mapping[str, Any], case: Case) -> Measured:
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
            reply = target.chat(model, case.messages, dict(case.options), **case.request)
            if turn:
                found.append(reply)
    own, other = map(_speeds, replies)
    if not own or not other:
        raise CannotCheck(f"{target.engine} {target.version} does not tell how fast it was")
    rate, first = own[0] / other[0], own[1] / other[1]
    told = f"{rate:.2f} times the tokens per second of {reference}, {first:.2f} times its wait for the first"
    if rate < wanted.get("tokens_per_second", 0) or first > wanted.get("first_token", math.inf):
        least = [f"{key} {wanted[key]}" for key in ("tokens_per_second", "first_token") if key in wanted]
        return f"{told}, where {' and '.join(least)} is allowed", told
    return None, told


def _speeds(replies: Sequence[Reply]) -> tuple[float, float] | None:
    """Tokens per second and seconds to the first token: medians."""
    rates = [reply.tokens_per_second for reply in replies if reply.tokens_per_second]
    firsts = [reply.first_token for reply in replies if reply.first_token]
    return (statistics.median(rates), statistics.median(firsts)) if rates and firsts else None


def wrong_memory(target: Target, name: str, wanted: str, case: Case) -> Measured:
    """Memory that the loaded model takes.

    Raises:
        Unsupported: the place does not tell it.
    """
    taken = target.loaded(name).size
    told = f"{taken / 1e9:.2f} GB of memory"
    return (f"takes {told}, where {wanted} is allowed" if taken > (parse_size(wanted) or 0) else None), told


def wrong_embeddings(rows: Sequence[Sequence[float]], checks: Mapping[str, Any]) -> Measured:
    """Embeddings of the texts of a case: their length, and the cosine of the first two."""
    lengths = sorted({len(row) for row in rows})
    told = f"{len(rows)} embeddings of {' or '.join(map(str, lengths))} numbers"
    if not all(math.isfinite(value) for row in rows for value in row) or not all(map(any, rows)):
        return "an embedding is not of finite numbers, or all zero", told
    if lengths != [checks.get("dimension", lengths[0])]:
        return f"{told}, not of {checks.get('dimension', lengths[0])}", told
    if limits := checks.get("similarity"):
        cosine = sum(a * b for a, b in zip(rows[0], rows[1], strict=True)) / (
            math.hypot(*rows[0]) * math.hypot(*rows[1])
        )
        told += f", the first two with a cosine of {cosine:.3f}"
        if not limits[0] <= cosine <= limits[1]:
            return f"{told}, where {limits[0]} to {limits[1]} is allowed", told
    return None, told
