"""Go's types and values, as far as templates meet them.

A `Value` is what Go's ``reflect.Value`` is; the invalid one is None. Its ``data`` by kind: ``string`` bytes; ``int``,
``uint8``, ``float64`` and ``bool`` Python's; ``slice`` a list or None (nil) of the elements' data; ``map`` a dictionary
by bytes or None; ``struct`` a dictionary by field; ``ptr`` the data that it points to, or None; ``interface`` the Value
inside, or None; ``func`` the Values that it would go through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ollamaq.chat.gotemplate.text import encode

ZEROS: dict[str, Any] = {"string": b"", "int": 0, "uint8": 0, "float64": 0.0, "bool": False}


@dataclass(eq=False, slots=True)
class Field:
    """A field of a struct: its name in JSON that Ollama reads (``key``) and in JSON that templates print (``tag``)."""

    name: str
    type: Type
    key: str = ""
    tag: str = ""
    omitempty: bool = False


class Method(NamedTuple):
    """What a template can call without arguments (``takes`` is how many it wants) on the data of a value."""

    run: Callable[[Any], Value]
    takes: int = 0
    wrong: str = ""
    """Why Go would not call it."""


@dataclass(eq=False, slots=True)
class Type:
    """``name`` is what ``%T`` prints; ``string`` and ``json`` are the methods ``String`` and ``MarshalJSON``."""

    kind: str
    name: str
    elem: Type | None = None
    fields: tuple[Field, ...] = ()
    methods: dict[str, Method] = field(default_factory=dict)
    string: Callable[[Any], bytes] | None = None
    json: Callable[[Any], bytes] | None = None

    def zero(self) -> Any:
        if self.kind == "struct":
            return {field.name: field.type.zero() for field in self.fields}
        return ZEROS.get(self.kind)

    @property
    def element(self) -> Type:
        assert self.elem
        return self.elem


class Value(NamedTuple):
    type: Type
    data: Any


STRING = Type("string", "string")
INT = Type("int", "int")
UINT8 = Type("uint8", "uint8")
FLOAT = Type("float64", "float64")
BOOL = Type("bool", "bool")
ANY = Type("interface", "interface {}")


def slice_of(elem: Type) -> Type:
    return Type("slice", f"[]{elem.name}", elem)


def map_of(elem: Type) -> Type:
    return Type("map", f"map[string]{elem.name}", elem)


def pointer_to(elem: Type) -> Type:
    return Type("ptr", f"*{elem.name}", elem)


STRINGS = slice_of(STRING)
BYTES = slice_of(UINT8)
ANYS = slice_of(ANY)
MAP = map_of(ANY)


def concrete(value: Value | None) -> Value | None:
    """What is in an interface."""
    if value is not None and value.type.kind == "interface":
        inside: Value | None = value.data
        return inside
    return value


def indirect(value: Value | None) -> tuple[Value | None, bool]:
    """What is behind pointers and interfaces, or the first nil of them, and whether it is one."""
    while value is not None and value.type.kind in ("ptr", "interface"):
        if value.data is None:
            return value, True
        value = value.data if value.type.kind == "interface" else Value(value.type.element, value.data)
    return value, False


def is_true(value: Value | None) -> bool:
    """Not the zero value of its type; a struct always is."""
    value = concrete(value)
    if value is None:
        return False
    if value.type.kind == "struct":
        return True
    if value.type.kind in ("ptr", "func"):
        return value.data is not None
    return bool(value.data)


def go(value: Any) -> Value | None:
    """A value as Go decodes it from JSON, where all numbers are floats."""
    match value:
        case None:
            return None
        case bool():
            return Value(BOOL, value)
        case int() | float():
            return Value(FLOAT, float(value))
        case str():
            return Value(STRING, encode(value))
        case list() | tuple():
            return Value(ANYS, [go(item) for item in value])
        case dict():
            return Value(MAP, {encode(str(name)): go(item) for name, item in value.items()})
    raise TypeError(f"{value!r} is not of JSON")
