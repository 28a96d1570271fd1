"""Whole numbers: lengths and places, which is what Go's templates can add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ollamaq.chat.derive.go import (
    EMPTY,
    FALSE,
    TRUE,
    Declare,
    Expr,
    If,
    Nodes,
    Range,
    Set,
    call,
    either,
    negated,
    number,
    string,
)
from ollamaq.chat.derive.lists import Lists
from ollamaq.chat.derive.shapes import element
from ollamaq.chat.derive.values import (
    Choice,
    DictOf,
    Filtered,
    Int,
    Json,
    Listing,
    ListOf,
    Pieces,
    Raised,
    Split,
    Static,
    Undefined,
    Unknown,
    Value,
    mapped,
)

MIRRORED = {"lt": "gt", "gt": "lt", "lteq": "gteq", "gteq": "lteq", "eq": "eq", "ne": "ne"}
GO = {"lt": "lt", "gt": "gt", "lteq": "le", "gteq": "ge", "eq": "eq", "ne": "ne"}
PYTHON: dict[str, Callable[[Any, Any], Any]] = {
    "lt": lambda a, b: a < b,
    "gt": lambda a, b: a > b,
    "lteq": lambda a, b: a <= b,
    "gteq": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}


class Numbers(Lists):
    """Sums, lengths and their comparisons."""

    def integer(self, value: Value) -> Int:
        if isinstance(value, Static):
            return Int((), int(value.value))
        assert isinstance(value, Int)
        return value

    def subtracted(self, left: Value, right: Value) -> Value:
        if {self.kind(left), self.kind(right)} != {"int"} or isinstance(left, Choice) or isinstance(right, Choice):
            return Unknown("a difference")
        return self.total(self.integer(left), self.integer(right), -1)

    def total(self, left: Int, right: Int, sign: int) -> Value:
        terms = dict(left.terms)
        for expr, times in right.terms:
            terms[expr] = terms.get(expr, 0) + sign * times
        constant = left.constant + sign * right.constant
        kept = tuple((expr, times) for expr, times in terms.items() if times)
        return Int(kept, constant) if kept else Static(constant)

    def sum_of(self, value: Int) -> Expr:
        """Go's templates have no arithmetic: lengths of texts and lists are what adds up."""
        plus = [expr for expr, times in value.terms for _ in range(times)]
        minus = [expr for expr, times in value.terms for _ in range(-times)]
        constant = value.constant
        if not plus and not minus:
            return number(constant)
        if len(plus) == 1 and plus[0].text == "len" and constant <= 0:
            found = plus[0].args[0]
            for expr in minus:
                found = call("slice", found, expr)
            return call("len", call("slice", found, number(-constant)) if constant else found)
        if len(plus) == 1 and not minus and not constant:
            return plus[0]
        shape = "%*s" * len(plus) + "x" * max(constant, 0)
        made = call("printf", string(shape), *(arg for expr in plus for arg in (expr, EMPTY)))
        for expr in [*minus, *([number(-constant)] if constant < 0 else [])]:
            made = call("slice", made, expr)
        return call("len", made)

    def compared_ints(self, op: str, left: Int, right: Int) -> Expr:
        difference = self.total(left, right, -1)
        if isinstance(difference, Static):
            return TRUE if PYTHON[op](difference.value, 0) else FALSE
        assert isinstance(difference, Int)
        plus = Int(tuple((e, t) for e, t in difference.terms if t > 0), max(difference.constant, 0))
        minus = Int(tuple((e, -t) for e, t in difference.terms if t < 0), max(-difference.constant, 0))
        if not plus.terms:
            op, plus, minus = MIRRORED[op], minus, plus
        measured = self._measured(plus.terms[0][0]) if len(plus.terms) == 1 else None
        if measured and minus == Int(()) and not plus.constant:
            item = measured
            if op in ("gt", "ne"):
                return self.simplified(item)
            if op in ("eq", "lteq"):
                return self.simplified(negated(item))
            return TRUE if op == "gteq" else FALSE
        if (op, plus.constant) in (("gt", 1), ("lteq", 1)):
            op, plus = {"gt": "gteq", "lteq": "lt"}[op], Int(plus.terms)
        elif (op, minus.constant) in (("lt", 1), ("gteq", 1)):
            op, minus = {"lt": "lteq", "gteq": "gt"}[op], Int(minus.terms)
        if minus == Int(()) and plus.constant:
            minus, plus = Int((), -plus.constant), Int(plus.terms)
        return self.simplified(call(GO[op], self.sum_of(plus), self.sum_of(minus)))

    def _measured(self, length: Expr) -> Expr | None:
        """What a length is of, which is empty where that is 0."""
        return length.args[0] if length.text == "len" else self.lengths.get(length.text)

    def characters(self, text: Expr) -> Expr:
        """How many characters a text has, where Go's ``len`` counts bytes."""
        subject = self.variable_of(text, "text")
        name, at, byte = self.declare("length", number(0)), self.fresh("at"), self.fresh("byte")
        begins = either(call("lt", Expr(byte), number(128)), call("ge", Expr(byte), number(192)))
        more = call("len", call("printf", string("%*sx"), Expr(name), EMPTY))
        body: Nodes = [Declare(byte, call("index", subject, Expr(at))), If(begins, [Set(name, more)])]
        self.out.append(Range(at, "", call("len", subject), body))
        self.lengths[name] = text
        return Expr(name)

    def length(self, value: Value) -> Value:
        match value:
            case Choice():
                return mapped(value, self.length)
            case Static(value=str()):
                return Static(len(value.value))
            case Static(value=Undefined()):
                return Static(0)
            case Static():
                raise Raised
            case ListOf() | DictOf():
                return Static(len(value.items))
            case Listing() | Json():
                return Int(((call("len", value.expr), 1),))
            case Split():
                return self.length(self.pieces_of(value))
            case Pieces():
                name = self.declare("count", number(0))
                more = call("len", call("printf", string("%*sx"), Expr(name), EMPTY))
                self.out += self.each_piece(value, "piece", lambda *_: [Set(name, more)])
                return Int(((Expr(name), 1),))
            case Filtered():
                key = f"count {value.base.expr} {value.test(element(value.base.kind, Expr('$x')))}"
                if key not in self.cache:
                    item, name = self.fresh("one"), self.declare("count", number(0))
                    test = value.test(element(value.base.kind, Expr(item)))
                    more = call("len", call("printf", string("%*sx"), Expr(name), EMPTY))
                    self.out.append(Range(self.fresh("i"), item, value.base.expr, [If(test, [Set(name, more)])]))
                    self.cache[key] = Int(((Expr(name), 1),))
                return self.cache[key]
        if self.kind(value) == "text":
            return Int(((self.characters(self.text(value)), 1),))
        return value if isinstance(value, Unknown) else Unknown(f"the length of a {type(value).__name__.lower()}")
