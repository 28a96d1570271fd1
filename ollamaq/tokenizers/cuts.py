"""Cuts text as a pre-tokenizer does, to compare one with another.

A pre-tokenizer is a row of regular expressions; each one cuts the pieces of the one before into what it matches and
what lies between. The expressions are Oniguruma's, as in a tokenizer.json, or llama.cpp's.

Run as a program it cuts the corpus for the expressions (JSON) on its standard input. ``cuts_of`` runs it so: a
stranger's expression may take for ever, and a process can be ended.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import subprocess
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

SECONDS = 10
PROPERTY = re.compile(r"\\(p|P)\{(\^?)(\w+)\}|\\.|[][]", re.DOTALL)
HAN = "⺀-⻳⼀-⿕々〇〡-〩〸-〻㐀-䶿一-鿿豈-﫿𠀀-𲎯"

CORPUS = "".join(json.loads(Path(__file__).with_name("corpus.json").read_text(encoding="utf-8")))
"""Many scripts, code, numbers, white space, signs."""


@functools.cache
def _categories() -> dict[str, str]:
    """Characters of every general category, as ranges for a character class."""
    ranges: dict[str, list[list[int]]] = defaultdict(list)
    for at in range(sys.maxunicode + 1):
        found = ranges[unicodedata.category(chr(at))]
        if found and found[-1][1] == at - 1:
            found[-1][1] = at
        else:
            found.append([at, at])
    return {name: "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in spans) for name, spans in ranges.items()}


def _python(expression: str) -> str:
    """An expression with character properties spelt out, which Python's cannot name."""
    depth = 0

    def spell(match: re.Match[str]) -> str:
        nonlocal depth
        if not match[1]:
            depth += {"[": 1, "]": -1}.get(match[0], 0)
            return match[0]
        name, negated = match[3], (match[1] == "P") != bool(match[2])
        characters = HAN if name == "Han" else "".join(v for k, v in _categories().items() if k.startswith(name))
        if not characters or (negated and depth):
            raise ValueError(f"{match[0]} cannot be spelt out")
        return characters if depth else f"[{'^' * negated}{characters}]"

    return PROPERTY.sub(spell, expression)


@functools.cache
def cut(expressions: tuple[str, ...], text: str = CORPUS) -> list[int]:
    """Where pieces of the text begin.

    Raises:
        ValueError, re.error: an expression is not understood.
    """
    starts = {0, len(text)}
    for expression in expressions:
        compiled = re.compile(_python(expression))
        edges = sorted(starts)
        for start, stop in itertools.pairwise(edges):
            for match in compiled.finditer(text[start:stop]):
                starts |= {start + match.start(), start + match.end()}
    return sorted(starts)


def cuts_of(expressions: Sequence[str]) -> list[int] | None:
    """Where pieces of the corpus begin for a stranger's expressions, or None where that cannot be said."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=json.dumps(expressions).encode(),
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
        return [int(start) for start in json.loads(done.stdout)]
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


if __name__ == "__main__":
    json.dump(cut(tuple(json.load(sys.stdin))), sys.stdout)
