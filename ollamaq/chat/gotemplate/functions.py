"""The functions of ``text/template``, and those that Ollama adds."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable
from datetime import date, timedelta
from typing import NamedTuple

from ollamaq.chat.gotemplate.marshal import marshal
from ollamaq.chat.gotemplate.printing import printable, sprint, sprintf, sprintln
from ollamaq.chat.gotemplate.text import decode, is_print, quote, runes
from ollamaq.chat.gotemplate.types import ANY, BOOL, INT, STRING, UINT8, Type, Value, concrete, indirect, is_true

Argument = Value | None
Arguments = list[Argument]
INT_MAX = (1 << 63) - 1


class CallError(Exception):
    """A function's own error."""


class Function(NamedTuple):
    """``fixed`` parameters and, if it takes more, ``rest``: a type of Go, or None for whatever there is."""

    run: Callable[..., Argument]
    fixed: tuple[Type | None, ...] = ()
    rest: tuple[Type | None, ...] = ()


def _name(value: Argument) -> str:
    return value.type.name if value else "<nil>"


def _shown(value: Argument) -> str:
    return decode(sprintf(b"%s", [value]))


# --- parts ----------------------------------------------------------------------------------------------------------


def _length(item: Argument) -> Argument:
    item, nil = indirect(item)
    if nil:
        raise CallError("len of nil pointer")
    if item is None:
        raise CallError("reflect: call of reflect.Value.Type on zero Value")
    if item.type.kind not in ("map", "slice", "string"):
        raise CallError(f"len of type {item.type.name}")
    return Value(INT, len(item.data or b""))


def _at(index: Argument, cap: int) -> int:
    if index is None:
        raise CallError("cannot index slice/array with nil")
    if index.type.kind not in ("int", "uint8"):
        raise CallError(f"cannot index slice/array with type {index.type.name}")
    at: int = index.data
    if not 0 <= at <= cap:
        raise CallError(f"index out of range: {at}")
    return at


def _index(item: Argument, *indexes: Argument) -> Argument:
    item = concrete(item)
    if item is None:
        raise CallError("index of untyped nil")
    for index in map(concrete, indexes):
        item, nil = indirect(item)
        if nil or item is None:
            raise CallError("index of nil pointer")
        kind, data = item.type.kind, item.data
        if kind in ("slice", "string"):
            data = data or b""
            at = _at(index, len(data))
            if at == len(data):
                raise CallError(f"reflect: {kind} index out of range")
            item = Value(UINT8 if kind == "string" else item.type.element, data[at])
        elif kind == "map":
            if index is None:
                raise CallError("value is nil; should be of type string")
            if index.type.name != "string":
                raise CallError(f"value has type {index.type.name}; should be string")
            elem = item.type.element
            item = Value(elem, data[index.data] if data and index.data in data else elem.zero())
        else:
            raise CallError(f"can't index item of type {item.type.name}")
    return item


def _slice(item: Argument, *indexes: Argument) -> Argument:
    item = concrete(item)
    if item is None:
        raise CallError("slice of untyped nil")
    item, nil = indirect(item)
    if nil or item is None:
        raise CallError("slice of nil pointer")
    if len(indexes) > 3:
        raise CallError(f"too many slice indexes: {len(indexes)}")
    if item.type.kind == "string" and len(indexes) == 3:
        raise CallError("cannot 3-index slice a string")
    if item.type.kind not in ("slice", "string"):
        raise CallError(f"can't slice item of type {item.type.name}")
    data = [] if item.data is None else item.data
    ends = [0, len(data), len(data)]
    for place, index in enumerate(indexes):
        ends[place] = _at(index, len(data))
    start, end, cap = ends
    if start > end:
        raise CallError(f"invalid slice index: {start} > {end}")
    if end > cap:
        raise CallError(f"invalid slice index: {end} > {cap}")
    return Value(item.type, None if item.data is None else data[start:end])


# --- comparison -----------------------------------------------------------------------------------------------------

BASIC = {"bool": "bool", "int": "int", "uint8": "uint", "float64": "float", "string": "string"}
WHOLE = {"int", "uint"}


def _basic(value: Argument) -> str:
    return BASIC.get(value.type.kind, "") if value else ""


def _equal(first: Argument, *others: Argument) -> Argument:
    first = concrete(first)
    if not others:
        raise CallError("missing argument for comparison")
    return Value(BOOL, any(_same(first, concrete(other)) for other in others))


def _same(first: Argument, other: Argument) -> bool:
    kinds = _basic(first), _basic(other)
    if kinds[0] != kinds[1]:
        if first and other and not set(kinds) <= WHOLE:
            raise CallError(f"incompatible types for comparison: {_name(first)} and {_name(other)}")
        return bool(first and other and first.data == other.data)
    if kinds[0]:
        assert first
        assert other
        return bool(first.data == other.data)
    if first and other and first.type.kind != other.type.kind:
        raise CallError(
            f"non-comparable types {_shown(first)}: {first.type.name}, {other.type.name}: {decode(sprint([other]))}"
        )
    empty = [value is None or (value.type.kind != "struct" and value.data is None) for value in (first, other)]
    if any(empty):
        return all(empty)
    assert first
    assert other
    if other.type.kind != "ptr":
        raise CallError(f"non-comparable type {_shown(other)}: {other.type.name}")
    return first.data is other.data


def _not_equal(first: Argument, second: Argument) -> Argument:
    return Value(BOOL, not is_true(_equal(first, second)))


def _less(first: Argument, second: Argument) -> bool:
    first, second = concrete(first), concrete(second)
    kinds = _basic(first), _basic(second)
    if not all(kinds):
        raise CallError("invalid type for comparison")
    assert first
    assert second
    if kinds[0] != kinds[1] and not set(kinds) <= WHOLE:
        raise CallError(f"incompatible types for comparison: {_name(first)} and {_name(second)}")
    if kinds[0] == "bool":
        raise CallError("invalid type for comparison")
    return bool(first.data < second.data)


def _less_or_equal(first: Argument, second: Argument) -> bool:
    return _less(first, second) or is_true(_equal(first, second))


# --- text -----------------------------------------------------------------------------------------------------------


def _all(values: tuple[Argument, ...]) -> bytes:
    return sprint([Value(STRING, b"<no value>") if value is None else printable(value) for value in values])


_HTML = {0: "\ufffd", 34: "&#34;", 39: "&#39;", 38: "&amp;", 60: "&lt;", 62: "&gt;"}
_JS = {92: "\\\\", 39: "\\'", 34: '\\"', 60: "\\u003C", 62: "\\u003E", 38: "\\u0026", 61: "\\u003D"}


def _html(*values: Argument) -> Argument:
    return Value(STRING, b"".join(_HTML[c].encode() if c in _HTML else bytes([c]) for c in _all(values)))


def _js(*values: Argument) -> Argument:
    return Value(STRING, b"".join(_js_character(piece) for piece in runes(_all(values))))


def _js_character(piece: bytes) -> bytes:
    code = piece[0]
    if code < 0x80:
        return (_JS.get(code) or (chr(code) if code >= 0x20 else f"\\u00{code:02X}")).encode()
    if len(piece) == 1:
        return piece
    character = piece.decode()
    return piece if is_print(character) else f"\\u{ord(character):04X}".encode()


def _urlquery(*values: Argument) -> Argument:
    return Value(STRING, urllib.parse.quote_plus(_all(values), safe="-_.~").encode())


def _printf(form: Argument, *values: Argument) -> Argument:
    assert form
    return Value(STRING, sprintf(form.data, list(values)))


def _call(function: Argument, *values: Argument) -> Argument:
    function = concrete(function)
    if function is None:
        raise CallError("call of nil")
    raise CallError(f"non-function {quote(b'')} of type {function.type.name}")


# --- Ollama's -------------------------------------------------------------------------------------------------------


def _json(value: Argument) -> Argument:
    return Value(STRING, marshal(value))


def _date(days: int) -> Callable[..., Argument]:
    return lambda *form: Value(STRING, (date.today() + timedelta(days)).isoformat().encode())


def _typescript(value: Argument) -> Argument:
    if value is not None and value.type.kind == "ptr" and value.data is not None:
        value = Value(value.type.element, value.data)
    method = value.type.methods.get("ToTypeScriptType") if value is not None else None
    return method.run(value.data) if method and value else Value(STRING, b"any")


BUILTINS = {
    "and": Function(lambda *values: None, (None,), (None,)),
    "or": Function(lambda *values: None, (None,), (None,)),
    "not": Function(lambda value: Value(BOOL, not is_true(value)), (None,)),
    "call": Function(_call, (None,), (None,)),
    "html": Function(_html, (), (ANY,)),
    "index": Function(_index, (None,), (None,)),
    "slice": Function(_slice, (None,), (None,)),
    "js": Function(_js, (), (ANY,)),
    "len": Function(_length, (None,)),
    "print": Function(lambda *values: Value(STRING, sprint(list(values))), (), (ANY,)),
    "printf": Function(_printf, (STRING,), (ANY,)),
    "println": Function(lambda *values: Value(STRING, sprintln(list(values))), (), (ANY,)),
    "urlquery": Function(_urlquery, (), (ANY,)),
    "eq": Function(_equal, (None,), (None,)),
    "ne": Function(_not_equal, (None, None)),
    "lt": Function(lambda a, b: Value(BOOL, _less(a, b)), (None, None)),
    "le": Function(lambda a, b: Value(BOOL, _less_or_equal(a, b)), (None, None)),
    "gt": Function(lambda a, b: Value(BOOL, not _less_or_equal(a, b)), (None, None)),
    "ge": Function(lambda a, b: Value(BOOL, not _less(a, b)), (None, None)),
}
OLLAMA = {
    "json": Function(_json, (ANY,)),
    "currentDate": Function(_date(0), (), (STRING,)),
    "yesterdayDate": Function(_date(-1), (), (STRING,)),
    "toTypeScriptType": Function(_typescript, (ANY,)),
}
