"""Go's strings are bytes: from and to Python's text, and Go's quotes (``strconv``)."""

from __future__ import annotations

import codecs
import re
import unicodedata

from ollamaq.modelfile.printable import printed

_SURROGATES = re.compile("[\ud800-\udfff]")
_ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92}
_SHORT = {7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v", 92: "\\\\"}
_UNQUOTED = re.compile(
    r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3}))|([^\\\n])", re.DOTALL
)


def _each(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("ollamaq-go", _each)  # Go takes each wrong byte for a character of its own


def encode(text: str) -> bytes:
    """Text as Go gets it from JSON: halves of surrogate pairs become U+FFFD."""
    return _SURROGATES.sub("\ufffd", text).encode()


def decode(data: bytes) -> str:
    """Text that Go writes as JSON: each byte that is not UTF-8 becomes U+FFFD."""
    return data.decode("utf-8", "ollamaq-go")


def runes(data: bytes) -> list[bytes]:
    """The pieces that Go takes for characters; a wrong byte is one."""
    text = data.decode("utf-8", "surrogateescape")
    return [character.encode("utf-8", "surrogateescape") for character in text]


def is_letter_or_digit(character: str) -> bool:
    """Whether a character may be in a name."""
    category = unicodedata.category(character)
    return character == "_" or category[0] == "L" or category == "Nd"


def quote(data: bytes, mark: str = '"', ascii_only: bool = False) -> str:
    """The bytes as a Go literal (``%q``)."""
    return mark + "".join(_escaped(rune, mark, ascii_only) for rune in runes(data)) + mark


def _escaped(rune: bytes, mark: str, ascii_only: bool) -> str:
    if len(rune) == 1 and rune[0] >= 0x80:
        return f"\\x{rune[0]:02x}"
    character = rune.decode()
    code = ord(character)
    if character == mark:
        return "\\" + mark
    if code in _SHORT:
        return _SHORT[code]
    if is_print(character) and not (ascii_only and code >= 0x80):
        return character
    return f"\\x{code:02x}" if code < 0x20 or code == 0x7F else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def is_print(character: str) -> bool:
    """``strconv.IsPrint``."""
    return character not in "\t\r\n" and printed(character) == character


def code_point(character: str) -> str:
    """A character as Go's errors tell it (``%#U``)."""
    shown = f" '{character}'" if is_print(character) else ""
    return f"U+{ord(character):04X}{shown}"


def unquote(literal: str) -> bytes:
    """The value of a Go string literal, or ValueError."""
    if literal[0] == "`":
        return encode(literal[1:-1].replace("\r", ""))
    made, at = bytearray(), 1
    while at < len(literal) - 1:
        piece, at, is_byte = _unquoted(literal, at, '"')
        made += bytes([piece]) if is_byte else chr(piece).encode()
    return bytes(made)


def unquote_character(literal: str) -> int:
    """The code point of a character constant, or ValueError."""
    piece, at, _ = _unquoted(literal, 1, "'")
    if literal[at:] != "'":
        raise ValueError(f"malformed character constant: {literal}")
    return piece


def _unquoted(literal: str, at: int, mark: str) -> tuple[int, int, bool]:
    match = _UNQUOTED.match(literal, at)
    if not match or match[6] == mark or (match[1] in ('"', "'") and match[1] != mark):
        raise ValueError("invalid syntax")
    short, byte, four, eight, octal, plain = match.groups()
    code = (
        _ESCAPES.get(short, ord(short))
        if short
        else ord(plain)
        if plain
        else int(byte or four or eight, 16)
        if not octal
        else int(octal, 8)
    )
    if code > 0x10FFFF or (octal and code > 255) or ((four or eight) and 0xD800 <= code < 0xE000):
        raise ValueError("invalid syntax")
    return code, match.end(), bool(byte or octal)
