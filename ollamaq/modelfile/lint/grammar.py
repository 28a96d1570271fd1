"""Rules on how a Modelfile is written: where Ollama reads something else than a person does."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ollamaq.modelfile.lint.rule import Context, Edit, Problem, at, at_value
from ollamaq.modelfile.parser import KEYWORDS, QUOTES, read_value
from ollamaq.modelfile.printable import dropped

ONCE = ("TEMPLATE", "SYSTEM", "RENDERER", "PARSER", "REQUIRES", "ADAPTER")

_SPACES = re.compile(r"[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_INVISIBLE = re.compile(r"[\u00ad\u200b\u2060\ufeff]")
_LIKE_A_COMMAND = re.compile(rf"^[ \t]*({'|'.join(KEYWORDS)})[ \t]+\S", re.MULTILINE)
_ESCAPE = re.compile(r"\\[nrt\"]")
_TRAILING_COMMENT = re.compile(r"(?<![ \t])[ \t]+(#[ \t].*)\Z")


def dropped_character(c: Context) -> Iterator[Problem]:
    """Ollama drops characters that do not print: no-break and ideographic spaces, zero-width spaces and joiners, soft
    hyphens, control characters. Words run together, emoji fall apart, and nothing is said. The fix puts a plain space
    for a space of another kind and removes what is invisible; a joiner is left for you to judge.
    """
    for command in c.document.commands:
        written = c.written(command)
        for place in dropped(written):
            character, start, fix = written[place], command.value_start + place, None
            if _SPACES.match(character):
                fix = Edit(start, start + 1, " ")
            elif _INVISIBLE.match(character):
                fix = Edit(start, start + 1, "")
            yield Problem(f"Ollama drops the character U+{ord(character):04X}", start, start + 1, fix)


def wrong_bytes(c: Context) -> Iterator[Problem]:
    """Bytes that are not UTF-8 (or, behind its byte order mark, UTF-16) are read as U+FFFD, the replacement character,
    which becomes part of the model. The file was saved in another encoding, or cut within a character.
    """
    for command in c.document.commands:
        if (place := c.document.text.find("\ufffd", command.value_start, command.end)) >= 0:
            yield Problem("there are bytes here that are not UTF-8, or a U+FFFD was typed", place, place + 1)


def swallowed_instruction(c: Context) -> Iterator[Problem]:
    """A value that begins with a quote goes on until a line ends with that quote. Text behind the closing quote, or a
    quote that is never meant as one, makes the value take in the instructions that follow.
    """
    for command in c.document.commands:
        written = c.written(command)
        if not written.startswith(QUOTES):
            continue
        quote = next(quote for quote in QUOTES if written.startswith(quote))
        for found in _LIKE_A_COMMAND.finditer(written):
            if found.start() and quote in written[len(quote) : found.start()]:
                start = command.value_start + found.start(1)
                message = f"this {found[1]} is inside of the value of {command.label}, which has no end before it"
                yield Problem(message, start, start + len(found[1]))
                break


def literal_escape(c: Context) -> Iterator[Problem]:
    r"""The grammar has no escapes: ``\n`` is a backslash and an ``n``. A newline is written as one, between quotes. Go
    templates are another matter: within ``{{ }}`` they have escapes of their own, and TEMPLATE is not looked at.
    """
    for command in c.all("PARAMETER", "SYSTEM", "MESSAGE"):
        if (command.keyword == "PARAMETER" and command.name != "stop") or not (found := _ESCAPE.search(command.value)):
            continue
        yield at_value(command, f"{found[0]} is read as two characters: there are no escapes in a Modelfile")


def single_quotes(c: Context) -> Iterator[Problem]:
    """Single quotes do not quote: they become part of the value."""
    for command in c.document.commands:
        value = c.written(command)
        if len(value) > 1 and value[0] == value[-1] == "'":
            yield at_value(command, 'single quotes are part of the value; quote with "')


def trailing_comment(c: Context) -> Iterator[Problem]:
    """A ``#`` begins a comment only where a line begins; behind a value it is part of the value. The fix moves it to a
    line of its own for instructions that could not have meant it.
    """
    for command in c.document.commands:
        written = c.written(command)
        if written.startswith('"') or "\n" in written or "\r" in written:
            continue
        if not (found := _TRAILING_COMMENT.search(written)):
            continue
        fix = None
        if command.keyword in ("FROM", "RENDERER", "PARSER", "REQUIRES") or (
            command.keyword == "PARAMETER" and command.name != "stop"
        ):
            kept = c.document.text[command.start : command.value_start + found.start()]
            fix = Edit(command.start, command.end, f"{found[1]}\n{kept}")
        start = command.value_start + found.start(1)
        yield Problem(f"this comment is part of the value of {command.label}", start, command.end, fix)


def does_not_read_back(c: Context) -> Iterator[Problem]:
    """``ollama show --modelfile`` writes quotes only around values with newlines or blanks at an end, and only as they
    come. A value with quotes in the wrong place is printed so that another one, or none, is read from it: whoever
    rebuilds the model from that output gets another model.
    """
    for command in c.document.commands:
        value, shown = command.value, command.value
        if "\n" in value or value.startswith(" ") or value.endswith(" "):
            quote = '"""' if '"' in value else '"'
            shown = quote + value + quote
        if read_value(shown) != (value, len(shown)):
            yield at_value(command, "what `ollama show --modelfile` prints for this does not read back")


def empty_value(c: Context) -> Iterator[Problem]:
    """An instruction without a value is accepted and does nothing; an empty SYSTEM does not take away the one of the
    model below.
    """
    for command in c.document.commands:
        if not command.value and command.keyword != "PARAMETER":
            yield at(command, f"{command.label} has no value")


def repeated_instruction(c: Context) -> Iterator[Problem]:
    """Of these instructions only the last one counts. The fix removes those before it, which changes nothing."""
    for keyword in ONCE:
        *ignored, last = c.all(keyword) or c.document.commands[:1]
        line = c.document.place(last.start)[0]
        for command in ignored:
            yield at(command, f"only the last {keyword} counts, on line {line}", c.removed(command))
