"""The formatter: one way to write what a Modelfile says. Nothing that Ollama reads changes."""

from __future__ import annotations

from itertools import pairwise

from ollamaq.modelfile.parser import Command, Comment, Document, read_value
from ollamaq.modelfile.printable import dropped
from ollamaq.modelfile.render import quoted


def formatted(document: Document) -> str:
    """Instructions in capitals, a single blank behind them, no quotes where none are needed and three around several
    lines; at most one empty line in a row, no blanks at the ends of lines. Comments and the order of things stay.
    """
    text, parts = document.text, document.parts
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = [_written(document, part) + newline for part in parts]
    for i, (part, below) in enumerate(pairwise(parts)):
        if text[part.end : below.start].replace("\r\n", "\n").replace("\r", "\n").count("\n") > 1:
            lines[i] += newline
    return "".join(lines)


def _written(document: Document, part: Command | Comment) -> str:
    if isinstance(part, Comment):
        return part.text.rstrip()
    # a PARAMETER whose name is cut off by a second blank keeps both: with one it would be another
    head = f"{part.keyword} {part.name}" if part.keyword in ("PARAMETER", "MESSAGE") else part.keyword
    return f"{head} {_value(document.text[part.value_start : part.end], part.value)}"


def _value(written: str, value: str) -> str:
    if dropped(written):  # Ollama drops it, but the author should see it
        return written
    if not value:
        return '""'
    several = f'"""{value}"""'
    if "\n" in value and read_value(several) == (value, len(several)):
        return several
    return quoted(value) or written
