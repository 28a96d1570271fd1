"""Splits a template into tokens, as Go's ``text/template/parse`` does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ollamaq.chat.gotemplate.text import code_point, encode, is_letter_or_digit, quote

KEYWORDS = ("block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with")
BLANKS = " \t\r\n"

_SPACE = re.compile(r"[ \t\r\n]+")
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?"
    r"|0[oO][0-7_]*(?:\.[0-7_]*)?|0[bB][01_]*(?:\.[01_]*)?"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)
_QUOTED = {
    '"': (re.compile(r'"(?:[^"\\\n]|\\[^\n])*"'), "string", "unterminated quoted string"),
    "'": (re.compile(r"'(?:[^'\\\n]|\\[^\n])*'"), "character", "unterminated character constant"),
    "`": (re.compile(r"`[^`]*`"), "string", "unterminated raw quoted string"),
}


@dataclass(frozen=True, slots=True)
class Token:
    """``kind`` is a keyword, or text, space, field, …; an ``error``'s ``text`` is what is wrong."""

    kind: str
    pos: int
    text: str

    def __str__(self) -> str:
        if self.kind == "EOF":
            return "EOF"
        if self.kind == "error":
            return self.text
        if self.kind in KEYWORDS or self.kind == ".":
            return f"<{self.text}>"
        if len(encode(self.text)) > 10:
            return quote(encode(self.text[:10])) + "..."
        return quote(encode(self.text))


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a template; the last is ``EOF`` or an ``error``."""
    at = 0
    while True:
        start, found = at, text.find("{{", at)
        end = found if found >= 0 else len(text)
        inside = end + 2
        trims = text[inside : inside + 1] == "-" and text[inside + 1 : inside + 2] in tuple(BLANKS)
        shown = text[start:end].rstrip(BLANKS) if trims and found >= 0 else text[start:end]
        if shown:
            yield Token("text", start, shown)
        if found < 0:
            yield Token("EOF", len(text), "EOF")
            return
        after = inside + 2 if trims else inside
        if text.startswith("/*", after):
            close = text.find("*/", after + 2)
            closed = close >= 0 and _right(text, close + 2)
            if not closed:
                wrong = "unclosed comment" if close < 0 else "comment ends before closing delimiter"
                yield Token("error", after, wrong)
                return
            at = closed
            continue
        yield Token("{{", found, "{{")
        at = after
        depth = 0
        while True:
            closed = _right(text, at)
            if closed and not depth:
                yield Token("}}", at if text[at] == "}" else at + 2, "}}")
                at = closed
                break
            token = Token("error", at, "unclosed left paren") if closed else _inside(text, at)
            depth += (token.kind == "(") - (token.kind == ")")
            if depth < 0:
                token = Token("error", at, "unexpected right paren")
            yield token
            if token.kind == "error":
                return
            at += len(token.text)


def _right(text: str, at: int) -> int:
    """Where the text goes on behind a right delimiter at ``at``; 0 if there is none."""
    if text.startswith("}}", at):
        return at + 2
    if text[at : at + 1] in tuple(BLANKS) and text.startswith("-}}", at + 1):
        rest = _SPACE.match(text, at + 4)
        return rest.end() if rest else at + 4
    return 0


def _inside(text: str, at: int) -> Token:
    """The next token of an action."""
    if at == len(text):
        return Token("error", at, "unclosed action")
    first = text[at]
    if first in BLANKS:
        space = _SPACE.match(text, at)
        assert space
        end = space.end()
        if text.startswith("-}}", end):
            end -= 1  # the last blank belongs to the delimiter
        return Token("space", at, text[at:end])
    if first in "=|()":
        return Token(first, at, first)
    if first == ":":
        return Token(":=", at, ":=") if text.startswith(":=", at) else Token("error", at, "expected :=")
    if first in _QUOTED:
        form, kind, wrong = _QUOTED[first]
        match = form.match(text, at)
        return Token(kind, at, match[0]) if match else Token("error", at, wrong)
    following = text[at + 1 : at + 2]
    if first == "$" or (first == "." and following and following not in "0123456789"):
        return _name(text, at, "variable" if first == "$" else "field")
    if first in "+-.0123456789":
        return _number(text, at)
    if is_letter_or_digit(first):
        return _name(text, at, "identifier")
    if " " < first <= "~":
        return Token("char", at, first)
    return Token("error", at, f"unrecognized character in action: {code_point(first)}")


def _name(text: str, at: int, kind: str) -> Token:
    end = at + 1
    while end < len(text) and is_letter_or_digit(text[end]):
        end += 1
    word, following = text[at:end], text[end : end + 1]
    if following and following not in BLANKS + ".,|:)(" and not text.startswith("}}", end):
        return Token("error", at, f"bad character {code_point(following)}")
    if word == ".":
        return Token(".", at, word)
    if kind == "identifier":
        kind = word if word in KEYWORDS else "bool" if word in ("true", "false") else kind
    return Token(kind, at, word)


def _number(text: str, at: int) -> Token:
    def scan(start: int) -> tuple[int, bool]:
        match = _NUMBER.match(text, start)
        assert match
        end = match.end()
        wrong = end < len(text) and is_letter_or_digit(text[end])
        return end + wrong, not wrong

    end, good = scan(at)
    kind = "number"
    if good and text[end : end + 1] in ("+", "-"):
        end, good = scan(end)
        good, kind = good and text[end - 1] == "i", "complex"
    if not good:
        return Token("error", at, f"bad number syntax: {quote(encode(text[at:end]))}")
    return Token(kind, at, text[at:end])
