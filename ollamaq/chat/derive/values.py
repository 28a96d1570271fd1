"""What a Jinja expression stands for while it is translated: known values, and expressions of Go's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from jinja2 import nodes as jinja

from ollamaq.chat.derive.go import FALSE, TRUE, Expr, Nodes, both, either, negated

SEPARATOR = "\0"


class Undefined:
    """Of a name that nothing defines."""

    def __repr__(self) -> str:
        return "undefined"


UNDEFINED = Undefined()


class Raised(Exception):
    """The template refuses a conversation here."""


class Value:
    """Of any kind."""


@dataclass(frozen=True)
class Static(Value):
    """A scalar that is known beforehand."""

    value: Any


@dataclass(frozen=True)
class Str(Value):
    expr: Expr


@dataclass(frozen=True)
class Truth(Value):
    """True or false by a condition."""

    cond: Expr


@dataclass(frozen=True)
class Int(Value):
    """A sum of expressions, each so many times, and a constant."""

    terms: tuple[tuple[Expr, int], ...]
    constant: int = 0


@dataclass(frozen=True)
class Concat(Value):
    """Texts in a row."""

    parts: tuple[Value, ...]


@dataclass(eq=False)
class Rope(Value):
    """A text that nodes print."""

    nodes: Nodes


@dataclass(eq=False)
class Gathered(Value):
    """A list of texts that nodes print."""

    nodes: Nodes


@dataclass(frozen=True)
class Choice(Value):
    """One of two values, by a condition."""

    cond: Expr
    yes: Value
    no: Value


@dataclass(frozen=True)
class Record(Value):
    """A struct of Ollama's, whose fields `shapes` lists."""

    kind: str
    expr: Expr


@dataclass(frozen=True)
class Listing(Value):
    """A slice of Go's, or a map from names, of elements of a kind."""

    kind: str
    expr: Expr
    mapping: bool = False
    backwards: bool = False


@dataclass(frozen=True)
class Json(Value):
    """Whatever JSON can hold: an argument of a tool call, a value of an enumeration."""

    expr: Expr


@dataclass(frozen=True)
class Filtered(Value):
    """Those elements of a list that pass a test."""

    base: Listing
    test: Callable[[Value], Expr]


@dataclass(frozen=True)
class Mapped(Value):
    """An attribute of each element, as Jinja's ``map`` has it.

    In training that can be gone through only once, and is no JSON unless it is made a list; to llama.cpp it is one.
    """

    base: Listing
    name: str


@dataclass(frozen=True)
class Split(Value):
    """A text, cut at a separator."""

    expr: Expr
    separator: str
    once: bool = False


@dataclass(frozen=True)
class Span(Value):
    """So many whole numbers, from one upwards or downwards."""

    start: Int
    count: Int
    step: int


@dataclass(frozen=True)
class Pieces(Value):
    """A list of texts, as one text with each of them before a separator: Go's templates can't build lists."""

    expr: Expr
    separator: str = SEPARATOR


@dataclass(frozen=True)
class Lowered(Value):
    """A text in small letters, for comparisons: beyond ASCII, Go's templates have none."""

    of: Value


@dataclass(frozen=True)
class Uppered(Value):
    """A text in capitals, as far as it is ASCII."""

    of: Value


@dataclass(frozen=True)
class Items(Value):
    """Pairs of a mapping, or of a record."""

    of: Value


@dataclass(frozen=True)
class ListOf(Value):
    items: tuple[Value, ...]


@dataclass(frozen=True)
class DictOf(Value):
    items: tuple[tuple[Value, Value], ...]


@dataclass(eq=False)
class Namespace(Value):
    """Its attributes are in the environment, by ``name.attribute``."""

    name: str


@dataclass(eq=False)
class Macro(Value):
    node: jinja.Macro
    depth: list[int] = field(default_factory=lambda: [0])


@dataclass(frozen=True)
class Method(Value):
    of: Value
    name: str


@dataclass(frozen=True)
class Loop(Value):
    """Jinja's ``loop``."""

    index: Int
    first: Expr
    last: Expr
    length: Value
    over: Value


@dataclass(frozen=True)
class Told(Value):
    """All that was written so far; ``last`` is what was written last."""

    last: Value


@dataclass(frozen=True)
class Unknown(Value):
    """What cannot be translated, and why; no harm unless it is needed."""

    why: str


NOTHING = Static(UNDEFINED)
NONE = Static(None)


def truth_value(cond: Expr) -> Value:
    return Static(True) if cond == TRUE else Static(False) if cond == FALSE else Truth(cond)


def choice(cond: Expr, yes: Value, no: Value) -> Value:
    """``yes`` or ``no``, the simplest way."""
    if cond == TRUE:
        return yes
    if cond == FALSE or yes == no:
        return no
    if no == Static("") and isinstance(yes, Str) and yes.expr == cond:
        return yes
    conds = condition_of(yes), condition_of(no)
    if conds[0] is not None and conds[1] is not None:
        return truth_value(chosen(cond, conds[0], conds[1]))
    return Choice(cond, yes, no)


def chosen(cond: Expr, yes: Expr, no: Expr) -> Expr:
    """The condition that is one or another by a condition."""
    if yes == TRUE:
        return either(cond, no)
    if no == TRUE:
        return either(negated(cond), yes)
    return either(both(cond, yes), both(negated(cond), no))


def condition_of(value: Value) -> Expr | None:
    """The condition that a truth value is."""
    if isinstance(value, Truth):
        return value.cond
    if isinstance(value, Static) and isinstance(value.value, bool):
        return TRUE if value.value else FALSE
    return None


def mapped(value: Value, change: Callable[[Value], Value]) -> Value:
    """A change of each of the values that it may be; of those that it is no error for, if there are any."""
    if not isinstance(value, Choice):
        return change(value)
    return either_way(value, lambda one: mapped(one, change))


def either_way(value: Choice, change: Callable[[Value], Value]) -> Value:
    """A change of both values, or of the one that it is no error for."""
    try:
        yes = change(value.yes)
    except Raised:
        return change(value.no)
    try:
        return choice(value.cond, yes, change(value.no))
    except Raised:
        return yes


def leaves(value: Value) -> Iterator[Value]:
    """The values that it may be."""
    if isinstance(value, Choice):
        yield from leaves(value.yes)
        yield from leaves(value.no)
    else:
        yield value
