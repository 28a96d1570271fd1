"""What a chat template asks of values, as conditions of Go's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import nodes as jinja

from ollamaq.chat.derive.go import (
    EMPTY,
    FALSE,
    TRUE,
    Expr,
    If,
    Nodes,
    Print,
    Range,
    Set,
    Template,
    Text,
    both,
    call,
    either,
    field_of,
    negated,
    string,
)
from ollamaq.chat.derive.numbers import PYTHON, Numbers
from ollamaq.chat.derive.shapes import MESSAGES, present
from ollamaq.chat.derive.values import (
    NONE,
    NOTHING,
    Choice,
    Concat,
    DictOf,
    Filtered,
    Int,
    Items,
    Json,
    Listing,
    ListOf,
    Lowered,
    Macro,
    Method,
    Namespace,
    Pieces,
    Record,
    Rope,
    Split,
    Static,
    Str,
    Truth,
    Undefined,
    Unknown,
    Uppered,
    Value,
    condition_of,
    truth_value,
)

TYPES = {
    "string": "string",
    "boolean": "bool",
    "float": "float64",
    "number": "float64",
    "mapping": "map[string]interface {}",
}
"""Tests of Jinja, and the types of Go's that pass them."""


class Conditions(Numbers):
    """Truth, comparisons and tests."""

    def value(self, node: Any) -> Value:
        raise NotImplementedError

    def item(self, of: Value, key: Value) -> Value:
        raise NotImplementedError

    def condition(self, node: Any) -> Expr | Unknown:
        if isinstance(node, jinja.Not):
            inner = self.condition(node.node)
            return inner if isinstance(inner, Unknown) else negated(inner)
        if not isinstance(node, jinja.And | jinja.Or):
            return self.truth(self.value(node))
        kept, parts = list(self.known), []
        join, final = (both, FALSE) if isinstance(node, jinja.And) else (either, TRUE)
        for part in (node.left, node.right):
            cond = self.condition(part)
            if cond == final:
                self.known = kept
                return final
            parts.append(cond)
            if not isinstance(cond, Unknown):
                self.assume(cond if join is both else negated(cond))
        self.known = kept
        for cond in parts:
            if isinstance(cond, Unknown):
                return cond
        return join(*parts)  # type: ignore[arg-type]

    def truth(self, value: Value) -> Expr | Unknown:
        match value:
            case Static(value=Undefined()):
                return FALSE
            case Static():
                return TRUE if value.value else FALSE
            case Truth():
                return self.simplified(value.cond)
            case Str() | Json() | Listing() | Pieces():
                return self.simplified(value.expr)
            case Int():
                return self.compared_ints("ne", value, Int(()))
            case Concat():
                return self._any(list(value.parts))
            case Rope():
                return self._truth_of_nodes(value.nodes)
            case Choice(yes=Listing(expr=expr), no=Static(value=None | Undefined())) if value.cond == present(expr):
                return self.simplified(expr)
            case Choice():
                yes, no = self.truth(value.yes), self.truth(value.no)
                if isinstance(yes, Unknown):
                    return yes
                if isinstance(no, Unknown):
                    return no
                return self.simplified(either(both(value.cond, yes), both(negated(value.cond), no)))
            case ListOf() | DictOf():
                return TRUE if value.items else FALSE
            case Filtered():
                found = self.length(value)
                return (
                    self.compared_ints("ne", found, Int(())) if isinstance(found, Int) else Unknown("a filtered list")
                )
            case Items():
                return self.truth(value.of)
            case Unknown():
                return value
            case Split():
                return TRUE
        return TRUE

    def _any(self, parts: list[Value]) -> Expr | Unknown:
        conds = [self.truth(part) for part in parts]
        if TRUE in conds:
            return TRUE
        for cond in conds:
            if isinstance(cond, Unknown):
                return cond
        return either(*conds)  # type: ignore[arg-type]

    def _truth_of_nodes(self, nodes: Nodes) -> Expr | Unknown:
        conds: list[Expr] = []
        for node in nodes:
            match node:
                case Text() if node.text:
                    return TRUE
                case Print():
                    conds.append(node.expr)
                case Template():
                    return TRUE
                case If():
                    yes, no = self._truth_of_nodes(node.body), self._truth_of_nodes(node.other)
                    if isinstance(yes, Unknown) or isinstance(no, Unknown):
                        return Unknown("whether a text is empty")
                    conds.append(either(both(node.cond, yes), both(negated(node.cond), no)))
                case Range():
                    inner = self._truth_of_nodes(node.body)
                    if inner != TRUE:
                        return Unknown("whether a text is empty")
                    conds.append(node.over)
        return either(*conds)

    def under(self, cond: Expr, run: Callable[[], Value]) -> Value:
        kept = self.known
        self.known = list(kept)
        self.assume(cond)
        try:
            return run()
        finally:
            self.known = kept

    def stable_of(self, cond: Expr) -> Expr:
        if not cond.names() & self.mutable_names:
            return cond
        return Expr(self.declare("was", cond))

    def comparison(self, node: jinja.Compare) -> Value:
        left, conds = self.value(node.expr), []
        for operand in node.ops:
            right = self.value(operand.expr)
            cond = self.compared(operand.op, left, right)
            if isinstance(cond, Unknown):
                return cond
            conds.append(cond)
            left = right
        return truth_value(self.simplified(both(*conds)))

    def compared(self, op: str, left: Value, right: Value) -> Expr | Unknown:
        if isinstance(left, Unknown):
            return left
        if isinstance(right, Unknown):
            return right
        if op == "notin":
            cond = self.compared("in", left, right)
            return cond if isinstance(cond, Unknown) else negated(cond)
        if op == "in" and isinstance(left, Choice) and isinstance(right, Pieces) and self.kind(left) == "maybe":
            return self.listed(Str(left.cond), right)
        for value, other, swap in ((left, right, False), (right, left, True)):
            if isinstance(value, Choice):
                sides = [
                    self.compared(op, *((side, other) if not swap else (other, side))) for side in (value.yes, value.no)
                ]
                for side in sides:
                    if isinstance(side, Unknown):
                        return side
                yes, no = sides
                return self.simplified(either(both(value.cond, yes), both(negated(value.cond), no)))  # type: ignore[arg-type]
        if isinstance(left, Lowered) and isinstance(right, Static | ListOf):
            return self.compared(op, self.lowered(left), right)
        if isinstance(right, Lowered) and isinstance(left, Static):
            return self.compared(op, left, self.lowered(right))
        if isinstance(left, Uppered) and isinstance(right, Static) and isinstance(right.value, str):
            return self.compared(op, Lowered(left.of), Static(right.value.swapcase()))
        if op == "in":
            return self.contained(left, right)
        if isinstance(left, Static) and isinstance(right, Static):
            try:
                return TRUE if PYTHON[op](left.value, right.value) else FALSE
            except TypeError:
                return Unknown("a comparison of different kinds")
        if self.kind(left) == self.kind(right) == "int":
            return self.compared_ints(op, self.integer(left), self.integer(right))
        same = self._same(left, right) if op in ("eq", "ne") else None
        if same is None:
            return Unknown(f"a comparison of a {type(left).__name__.lower()} with a {type(right).__name__.lower()}")
        return self.simplified(same if op == "eq" else negated(same))

    def _same(self, left: Value, right: Value) -> Expr | None:
        """Whether two values are equal; None where that can't be said."""
        kinds = self.kind(left), self.kind(right)
        if kinds == ("text", "text"):
            if isinstance(left, Static):
                left, right = right, left
            return call("eq", self.text(left), self.text(right))
        if (a := condition_of(left)) and (b := condition_of(right)):
            return either(both(a, b), both(negated(a), negated(b)))
        if isinstance(left, Record) and isinstance(right, Record) and left.kind in MESSAGES:
            return both(*(call("eq", field_of(left.expr, n), field_of(right.expr, n)) for n in ("Role", "Content")))
        if isinstance(left, Json) and kinds[1] == "text":
            return both(self.is_type(left, "string"), call("eq", left.expr, self.text(right)))
        if isinstance(left, ListOf) and isinstance(right, ListOf) and not (left.items and right.items):
            return TRUE if left.items == right.items else FALSE
        if all(kinds) and kinds[0] != kinds[1] and "json" not in kinds:
            return FALSE
        known = isinstance(left, Static) or isinstance(right, Static)
        return FALSE if known and not isinstance(left, Json) and not isinstance(right, Json) else None

    def contained(self, left: Value, right: Value) -> Expr | Unknown:
        match right:
            case ListOf():
                texts = [item.value for item in right.items if isinstance(item, Static) and isinstance(item.value, str)]
                if self.kind(left) == "text" and len(texts) == len(right.items) and not isinstance(left, Static):
                    return self.simplified(call("eq", self.text(left), *map(string, texts))) if texts else FALSE
                conds = [self.compared("eq", left, item) for item in right.items]
                for cond in conds:
                    if isinstance(cond, Unknown):
                        return cond
                return either(*conds)  # type: ignore[arg-type]
            case Record() if isinstance(left, Static):
                return self.defined(self.item(right, left))
            case Listing(mapping=False, kind="string") if self.kind(left) == "text":
                text = self.text(left)

                def make() -> Value:
                    name, item = self.declare("listed", FALSE), self.fresh("item")
                    found: Nodes = [If(call("eq", Expr(item), text), [Set(name, TRUE)])]
                    self.out.append(Range(self.fresh("_"), item, right.expr, found))
                    return Truth(Expr(name))

                listed = self.remembered(f"in {right.expr}", text, make)
                return self.truth(listed)
            case Pieces() if isinstance(left, Static) and not isinstance(left.value, str):
                return FALSE
            case Pieces() | Split() if self.kind(left) == "text":
                return self.listed(left, self.pieces_of(right) if isinstance(right, Split) else right)
            case DictOf():
                return self.contained(left, ListOf(tuple(key for key, _ in right.items)))
            case Static(value=str()) if isinstance(left, Static):
                return TRUE if str(left.value) in right.value else FALSE
            case Listing(mapping=True, kind="json") if self.kind(left) == "text":
                there = call("index", right.expr, self.text(left))
                return call("ne", call("printf", string("%v"), there), string("<nil>"))
            case _ if self.kind(right) == "text" and isinstance(left, Static) and isinstance(left.value, str):
                return self.contains(right, left.value)
            case Json() if isinstance(left, Static) and self.simplified(self.is_type(right, "string")) == TRUE:
                return self.contains(self.text_in(right), str(left.value))
            case Static(value=None | Undefined()):
                return FALSE
        return Unknown("what is in a " + type(right).__name__.lower())

    def tested(self, node: jinja.Test) -> Value:
        value = self.value(node.node)
        cond = self.passes(value, node.name, [self.value(argument) for argument in node.args])
        return cond if isinstance(cond, Unknown) else truth_value(self.simplified(cond))

    def passes(self, value: Value, test: str, args: list[Value]) -> Expr | Unknown:
        if isinstance(value, Unknown):
            return value
        if isinstance(value, Choice):
            yes, no = self.passes(value.yes, test, args), self.passes(value.no, test, args)
            if isinstance(yes, Unknown):
                return yes
            if isinstance(no, Unknown):
                return no
            return self.simplified(either(both(value.cond, yes), both(negated(value.cond), no)))
        known = isinstance(value, Static)
        kind = self.kind(value)
        match test:
            case "defined":
                return FALSE if value == NOTHING else TRUE
            case "undefined":
                return TRUE if value == NOTHING else FALSE
            case "none":
                if isinstance(value, Json):
                    return call("eq", call("printf", string("%v"), value.expr), string("<nil>"))
                return TRUE if value == NONE else FALSE
            case "equalto" | "eq" | "==" | "sameas":
                return self.compared("eq", value, args[0])
            case "ne":
                return self.compared("ne", value, args[0])
            case "in":
                return self.contained(value, args[0])
            case "true" | "false":
                cond = condition_of(value)
                return FALSE if cond is None else cond if test == "true" else negated(cond)
        if isinstance(value, Json):
            return self.json_passes(value, test)
        is_text, is_list = (
            kind == "text",
            isinstance(value, Listing | ListOf | Filtered | Split | Pieces) and not is_map(value),
        )
        mapping = is_map(value)
        answers = {
            "string": is_text,
            "mapping": mapping,
            "boolean": kind == "truth",
            "number": kind in ("int", "truth"),
            "integer": kind == "int",
            "iterable": is_text or is_list or mapping or value == NOTHING,
            "sequence": is_text or is_list or mapping or value == NOTHING,
            "callable": isinstance(value, Macro | Method),
        }
        if test in answers and (kind or known or is_list or mapping or isinstance(value, Method | Macro | Namespace)):
            return TRUE if answers[test] else FALSE
        return Unknown(f"test {test}")

    def json_passes(self, value: Json, test: str) -> Expr | Unknown:
        if test in TYPES:
            return self.is_type(value, TYPES[test])
        if test in ("iterable", "sequence"):
            return self.is_type(value, "string", "[]interface {}", "map[string]interface {}")
        return Unknown(f"test {test} of an argument")

    def text_in(self, value: Json) -> Value:
        """A text where that is what it is, else an empty one: what looks into it is written before what it is asked."""

        def make() -> Value:
            name = self.declare("text", EMPTY)
            self.out.append(If(self.is_type(value, "string"), [self.put(name, value.expr)]))
            return Str(Expr(name))

        return self.remembered("text in", value.expr, make)

    def is_type(self, value: Json, *types: str) -> Expr:
        return call("eq", call("printf", string("%T"), value.expr), *map(string, types))

    def defined(self, value: Value) -> Expr | Unknown:
        return self.passes(value, "defined", [])


def is_map(value: Value) -> bool:
    return isinstance(value, Record | DictOf) or (isinstance(value, Listing) and value.mapping)
