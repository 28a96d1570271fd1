"""Words that somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 40


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that looks most like ``word``, if one does."""
    if len(word) > LONGEST:
        return None
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence: a question, or nothing."""
    near = closest(word, known)
    return f"; did you mean {near}?" if near else ""
