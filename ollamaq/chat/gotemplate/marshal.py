"""JSON as Go's ``encoding/json`` writes it: compact, keys of maps sorted, ``<``, ``>`` and ``&`` escaped."""

from __future__ import annotations

import base64
import re
from decimal import Decimal

from ollamaq.chat.gotemplate.text import runes
from ollamaq.chat.gotemplate.types import Type, Value

_SPECIAL = re.compile('[\\x00-\\x1f"\\\\<>&\u2028\u2029]')
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_NEWER = {"\b": "\\b", "\f": "\\f"}


class NotJson(Exception):
    """It can't be written, of which Ollama's ``json`` makes nothing."""


def marshal(value: Value | None) -> bytes:
    """The JSON of a value, or nothing."""
    try:
        return b"null" if value is None else of(value.type, value.data)
    except NotJson:
        return b""


def of(type_: Type, data: object) -> bytes:
    """The JSON of data of a type."""
    if type_.json and not (type_.kind == "ptr" and data is None):
        return type_.json(data)
    kind = type_.kind
    if kind == "bool":
        return b"true" if data else b"false"
    if kind in ("int", "uint8"):
        return str(data).encode()
    if kind == "float64":
        assert isinstance(data, float)
        return number(data)
    if kind == "string":
        assert isinstance(data, bytes)
        return string(data)
    if kind == "func":
        raise NotJson
    if data is None:
        return b"null"
    if kind == "interface":
        assert isinstance(data, Value)
        return of(data.type, data.data)
    if kind == "ptr":
        return of(type_.element, data)
    if kind == "slice":
        assert isinstance(data, list)
        if type_.element.kind == "uint8":
            return b'"' + base64.b64encode(bytes(data)) + b'"'
        return b"[" + b",".join(of(type_.element, item) for item in data) + b"]"
    assert isinstance(data, dict)
    if kind == "map":
        return b"{" + b",".join(string(key) + b":" + of(type_.element, data[key]) for key in sorted(data)) + b"}"
    return (
        b"{"
        + b",".join(
            string((field.tag or field.name).encode()) + b":" + of(field.type, data[field.name])
            for field in type_.fields
            if not (field.omitempty and not data[field.name]) or field.type.kind == "struct"
        )
        + b"}"
    )


def ordered(elem: Type, data: dict[bytes, object]) -> bytes:
    """A map of ``wk8/go-ordered-map``: in order, with the keys of easyjson."""
    return b"{" + b",".join(string(key, _SHORT) + b":" + of(elem, item) for key, item in data.items()) + b"}"


def string(data: bytes, short: dict[str, str] = _SHORT | _NEWER) -> bytes:
    """A JSON string; a byte that is no UTF-8 becomes a written-out U+FFFD."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        pieces = runes(data)
        return b'"' + b"".join(_character(piece, short) for piece in pieces) + b'"'
    return b'"' + _escaped(text, short) + b'"'


def _character(piece: bytes, short: dict[str, str]) -> bytes:
    return b"\\ufffd" if len(piece) == 1 and piece[0] >= 0x80 else _escaped(piece.decode(), short)


def _escaped(text: str, short: dict[str, str]) -> bytes:
    return _SPECIAL.sub(lambda match: short.get(match[0]) or f"\\u{ord(match[0]):04x}", text).encode()


def number(value: float) -> bytes:
    """A float: with an exponent below 1e-6 and from 1e21."""
    if value != value or value in (float("inf"), float("-inf")):
        raise NotJson
    if value and not 1e-6 <= abs(value) < 1e21:
        digits, _, exponent = repr(value).partition("e")
        digits = digits.removesuffix(".0")
        return f"{digits}e{int(exponent):+d}".encode()
    text = format(Decimal(repr(value)), "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
