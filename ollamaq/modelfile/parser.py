"""Modelfiles read exactly as Ollama reads them, keeping the place of every command and comment.

The grammar is that of ``parser.ParseFile`` in Ollama 0.34: commands and comments that begin a line; a value goes to the
first end of a line at which its quotes, ``"`` or three of them, are closed. There are no escapes, and characters that
do not print are dropped. The integration tests compare this module with that parser.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ollamaq.errors import UsageError
from ollamaq.modelfile.printable import printed
from ollamaq.modelfile.words import closest

KEYWORDS = (
    "FROM",
    "LICENSE",
    "TEMPLATE",
    "SYSTEM",
    "ADAPTER",
    "DRAFT",
    "RENDERER",
    "PARSER",
    "PARAMETER",
    "MESSAGE",
    "REQUIRES",
)
ROLES = ("system", "user", "assistant")
QUOTES = ('"""', '"')
BLANK = " \t\r\n"
MAX_BYTES = 16 << 20

_BOMS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be", b"\xef\xbb\xbf": "utf-8-sig"}
_SURROGATES = re.compile("[\ud800-\udfff]")
_BLANKS = re.compile(r"[ \t\r\n]*")
_LETTERS = re.compile(r"[A-Za-z]*")
_NAME = re.compile(r"[A-Za-z0-9_]*")
_LINE = re.compile(r"[^\r\n]*")
_LINE_ENDS = re.compile(r"\r\n|\r|\n")


class ModelfileError(UsageError):
    """A Modelfile that Ollama would not read; ``line`` and ``column``, from 1, tell where, and ``said`` its words."""

    def __init__(self, message: str, said: str, *, line: int, column: int, next_step: str) -> None:
        super().__init__(message, next_step=next_step)
        self.said, self.line, self.column = said, line, column


@dataclass(frozen=True, slots=True)
class Comment:
    """A line from ``#`` on, at ``text[start:end]``."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Command:
    """One instruction, at ``text[start:end]``; its value as written, quotes and all, at ``text[value_start:end]``.

    ``keyword`` is in capitals; ``name`` is the parameter's for a PARAMETER, the role for a MESSAGE, otherwise empty.
    ``value`` is what Ollama takes: without quotes, surrounding blanks and dropped characters.
    """

    keyword: str
    name: str
    value: str
    start: int
    value_start: int
    end: int

    @property
    def ollama_name(self) -> str:
        """What Ollama calls it. A PARAMETER with such a name is the same to it: ``PARAMETER model x`` is a FROM."""
        if self.keyword == "PARAMETER":
            return self.name
        return "model" if self.keyword == "FROM" else self.keyword.lower()

    @property
    def label(self) -> str:
        """Keyword and name, as they are written."""
        return f"{self.keyword} {self.name}".rstrip()


@dataclass(frozen=True)
class Document:
    """A Modelfile as it is written: ``str`` gives the text, ``encode`` the bytes, in which it came."""

    text: str
    parts: tuple[Command | Comment, ...]
    encoding: str = "utf-8"

    def __str__(self) -> str:
        return self.text

    @cached_property
    def commands(self) -> tuple[Command, ...]:
        return tuple(part for part in self.parts if isinstance(part, Command))

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of a character, from 1."""
        line = bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1

    @cached_property
    def _lines(self) -> list[int]:
        return [0, *(match.end() for match in _LINE_ENDS.finditer(self.text))]


def read_modelfile(path: Path) -> Document:
    """Read and parse a file.

    Raises:
        UsageError: it cannot be read, is too large, or is not a Modelfile (`ModelfileError`).
    """
    return parse(*decode(read_bytes(path)))


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that may be a Modelfile.

    Raises:
        UsageError: it cannot be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", next_step="give the path of a Modelfile") from error
    return bounded(data, path)


def bounded(data: bytes, path: Path) -> bytes:
    """The same bytes, if they are not too many for a Modelfile.

    Raises:
        UsageError: they are.
    """
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path} has more than {MAX_BYTES >> 20} MiB", next_step="is this the right file?")
    return data


def decode(data: bytes) -> tuple[str, str]:
    """Text and encoding, as Ollama finds them: UTF-8, or what a byte order mark says. Wrong bytes become U+FFFD."""
    for bom, encoding in _BOMS.items():
        if data.startswith(bom):
            rest = data[len(bom) :]
            if encoding == "utf-8-sig":  # here Go puts one U+FFFD for each wrong byte
                text = rest.decode("utf-8", "surrogateescape")
            else:
                text = rest[: len(rest) // 2 * 2].decode(encoding, "surrogatepass") + "\ufffd" * (len(rest) % 2)
            return _SURROGATES.sub("\ufffd", text), encoding
    return data.decode("utf-8", "replace"), "utf-8"


def encode(text: str, encoding: str) -> bytes:
    """The reverse of `decode`."""
    bom = next((bom for bom, name in _BOMS.items() if name == encoding), b"")
    return bom + text.encode("utf-8" if encoding == "utf-8-sig" else encoding)


def parse(text: str, encoding: str = "utf-8") -> Document:
    """Parse a Modelfile's text.

    Raises:
        ModelfileError: Ollama would refuse it.
    """
    return _Parser(text, encoding).document()


def read_value(text: str, start: int = 0) -> tuple[str, int] | None:
    """The value that begins at ``start``, and the end of its last line; None if its quotes are never closed."""
    end = _end_of_line(text, start)
    first = printed(text[start:end]).strip(BLANK)
    quote = next((quote for quote in QUOTES if first.startswith(quote)), "")
    if not quote or (len(first) >= 2 * len(quote) and first.endswith(quote)):
        return first[len(quote) : len(first) - len(quote)], end
    while (at := text.find(quote[0], end + 1)) >= 0:  # only such a line can end with the quotes
        last = max(text.rfind(mark, end, at) for mark in "\r\n") + 1
        end = _end_of_line(text, at)
        if printed(text[last:end]).rstrip(BLANK).endswith(quote):
            return printed(text[start:end]).strip(BLANK)[len(quote) : -len(quote)], end
    return None


class _Parser:
    def __init__(self, text: str, encoding: str) -> None:
        self.blank = Document(text, (), encoding)
        self.text = text

    def document(self) -> Document:
        parts: list[Command | Comment] = []
        at = self.skip(0)
        while at < len(self.text):
            part = self.comment(at) if self.text[at] == "#" else self.command(at)
            parts.append(part)
            at = self.skip(part.end)
        document = Document(self.text, tuple(parts), self.blank.encoding)
        if not any(command.ollama_name == "model" for command in document.commands):
            raise self.error(0, "there is no FROM", "no FROM line", "say on which model it builds: FROM ./model.gguf")
        return document

    def skip(self, at: int) -> int:
        return self.match(_BLANKS, at)

    def comment(self, start: int) -> Comment:
        end = self.match(_LINE, start)
        return Comment(self.text[start:end], start, end)

    def command(self, start: int) -> Command:
        text = self.text
        after = self.match(_LETTERS, start + 1)
        keyword = printed(text[start]) + text[start + 1 : after]
        if after == len(text):
            raise self.cut_short(start, f"it ends within {keyword!r}")
        if text[after] not in " \t" or keyword.lower() not in _LOWER:
            word = text[start : self.match(_WORD, start)]
            raise self.error(start, f"{word!r} is not an instruction", "command must be one of", _one_of(word))
        keyword, at, name = keyword.upper(), after + 1, ""
        if keyword in ("PARAMETER", "MESSAGE"):
            after = self.match(_NAME if keyword == "PARAMETER" else _LETTERS, at)
            name = text[at:after]
            if after == len(text) or text[after] not in " \t":
                raise self.cut_short(start, f"{keyword} {name} has no value on its line".replace("  ", " "))
            if keyword == "MESSAGE" and name not in ROLES:
                raise self.error(
                    at, f"{name!r} is not a role of a MESSAGE", "message role must be one of", f"use {', '.join(ROLES)}"
                )
            at = after + 1
        value = read_value(text, at)
        if value is None:
            raise self.cut_short(
                start, f"the quotes of {keyword} {name}".rstrip() + " are never closed at a line's end"
            )
        return Command(keyword, name, value[0], start, *self.trim(at, value[1]))

    def trim(self, start: int, end: int) -> tuple[int, int]:
        """Without the blanks around it; an empty value is where its line ends."""
        inner = self.text[start:end].rstrip(BLANK)
        return start + len(inner) - len(inner.lstrip(BLANK)), start + len(inner)

    def match(self, pattern: re.Pattern[str], at: int) -> int:
        found = pattern.match(self.text, at)
        return found.end() if found else at

    def cut_short(self, at: int, why: str) -> ModelfileError:
        return self.error(at, why, "unexpected EOF", 'write KEYWORD value; close " and """ at the end of a line')

    def error(self, at: int, why: str, said: str, next_step: str) -> ModelfileError:
        line, column = self.blank.place(at)
        return ModelfileError(f"line {line}: {why}", said, line=line, column=column, next_step=next_step)


_LOWER = frozenset(keyword.lower() for keyword in KEYWORDS)
_WORD = re.compile(r"[^ \t\r\n]{1,40}")


def _end_of_line(text: str, at: int) -> int:
    found = _LINE.match(text, at)
    return found.end() if found else at


def _one_of(word: str) -> str:
    near = closest(word.upper(), KEYWORDS)
    return f"did you mean {near}?" if near else f"use {', '.join(KEYWORDS)}"
