"""The expressions of a chat template, as values."""

from __future__ import annotations

import json
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
    number,
    string,
    walk,
)
from ollamaq.chat.derive.shapes import SHAPES, element
from ollamaq.chat.derive.state import CannotDerive, Raised
from ollamaq.chat.derive.strings import Strings
from ollamaq.chat.derive.values import (
    NONE,
    NOTHING,
    UNDEFINED,
    Choice,
    Concat,
    DictOf,
    Filtered,
    Int,
    Items,
    Json,
    Listing,
    ListOf,
    Loop,
    Macro,
    Method,
    Namespace,
    Record,
    Rope,
    Split,
    Static,
    Str,
    Truth,
    Undefined,
    Unknown,
    Value,
    choice,
    condition_of,
    mapped,
    truth_value,
)

TYPES = {"string": "string", "boolean": "bool", "float": "float64", "number": "float64", "mapping": "map[string]interface {}"}
"""Tests of Jinja, and the types of Go's that pass them."""
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


class Expressions(Strings):
    """Values of expressions; `value` may write nodes that the value needs."""

    def value(self, node: Any) -> Value:
        """What an expression is, by what is known here."""
        return self.settled(self._value(node))

    def settled(self, value: Value) -> Value:
        if not isinstance(value, Choice):
            return value
        cond = self.simplified(value.cond)
        if cond == TRUE:
            return self.settled(value.yes)
        if cond == FALSE:
            return self.settled(value.no)
        return value

    def _value(self, node: Any) -> Value:
        match node:
            case jinja.Const():
                return Static(node.value)
            case jinja.TemplateData():
                return Static(node.data)
            case jinja.Name():
                return self.env.get(node.name) or _function(node.name)
            case jinja.Getattr():
                return self.attribute(self.value(node.node), node.attr)
            case jinja.Getitem(arg=jinja.Slice() as part):
                return self.sliced(self.value(node.node), part)
            case jinja.Getitem():
                return self.item(self.value(node.node), self.value(node.arg))
            case jinja.CondExpr():
                return self.either_of(node)
            case jinja.And() | jinja.Or():
                return self.junction(node)
            case jinja.Not():
                cond = self.condition(node.node)
                return cond if isinstance(cond, Unknown) else truth_value(negated(cond))
            case jinja.Compare():
                return self.comparison(node)
            case jinja.Test():
                return self.tested(node)
            case jinja.Filter():
                return self.filtered(node, self.value(node.node))
            case jinja.Call():
                return self.call_of(node)
            case jinja.Concat():
                return self.concat(tuple(self.value(part) for part in node.nodes))
            case jinja.Add():
                return self.added(self.value(node.left), self.value(node.right))
            case jinja.Sub():
                return self.subtracted(self.value(node.left), self.value(node.right))
            case jinja.Neg():
                return self.subtracted(Static(0), self.value(node.node))
            case jinja.List() | jinja.Tuple():
                return ListOf(tuple(self.value(item) for item in node.items))
            case jinja.Dict():
                return DictOf(tuple((self.value(pair.key), self.value(pair.value)) for pair in node.items))
            case jinja.BinExpr():
                left, right = self.value(node.left), self.value(node.right)
                if isinstance(left, Static) and isinstance(right, Static) and isinstance(left.value, int):
                    return self.arithmetic(node, left.value, right.value)
        return Unknown(f"{type(node).__name__} on line {node.lineno}")

    def arithmetic(self, node: Any, left: Any, right: Any) -> Value:
        try:
            match node:
                case jinja.Mod():
                    return Static(left % right)
                case jinja.Mul():
                    return Static(left * right) if abs(left) < 10**6 and isinstance(right, int) else NOTHING
                case jinja.FloorDiv():
                    return Static(left // right)
        except (TypeError, ArithmeticError):
            pass
        return Unknown(f"arithmetic on line {node.lineno}")

    # --- conditions -------------------------------------------------------------------------------------------------

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
            case Str() | Json() | Listing():
                return self.simplified(value.expr)
            case Int():
                return self.compared_ints("ne", value, Int(()))
            case Concat():
                return self._any(list(value.parts))
            case Rope():
                return self._truth_of_nodes(value.nodes)
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
                return self.compared_ints("ne", found, Int(())) if isinstance(found, Int) else Unknown("a filtered list")
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

    def junction(self, node: Any) -> Value:
        cond = self.condition(node.left)
        if isinstance(cond, Unknown):
            whole = self.condition(node)
            return whole if isinstance(whole, Unknown) else truth_value(whole)
        is_and = isinstance(node, jinja.And)
        if cond in (TRUE, FALSE):
            return self.value(node.right if (cond == TRUE) is is_and else node.left)
        left = self.value(node.left)
        right = self.under(cond if is_and else negated(cond), lambda: self.value(node.right))
        if isinstance(right, Unknown):
            return right
        cond = self.stable_of(cond)
        return choice(cond, right, left) if is_and else choice(cond, left, right)

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

    def either_of(self, node: jinja.CondExpr) -> Value:
        cond = self.condition(node.test)
        if isinstance(cond, Unknown):
            return cond
        other = node.expr2
        if cond in (TRUE, FALSE):
            chosen = node.expr1 if cond == TRUE else other
            return self.value(chosen) if chosen is not None else NOTHING
        results: list[Value | None] = []
        for when, part in ((cond, node.expr1), (negated(cond), other)):
            try:
                results.append(self.under(when, lambda part=part: self.value(part) if part is not None else NOTHING))  # type: ignore[misc]
            except Raised:
                results.append(None)
        yes, no = results
        if yes is None and no is None:
            raise Raised
        if yes is None or no is None:
            found = yes or no
            assert found
            return found
        return choice(self.stable_of(cond), yes, no)

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
        for value, other, swap in ((left, right, False), (right, left, True)):
            if isinstance(value, Choice) and (op != "in" or not swap or not isinstance(value, Static)):
                sides = [
                    self.compared(op, *((side, other) if not swap else (other, side))) for side in (value.yes, value.no)
                ]
                for side in sides:
                    if isinstance(side, Unknown):
                        return side
                yes, no = sides
                return self.simplified(either(both(value.cond, yes), both(negated(value.cond), no)))  # type: ignore[arg-type]
        if op == "in":
            return self.contained(left, right)
        if isinstance(left, Static) and isinstance(right, Static):
            try:
                return TRUE if PYTHON[op](left.value, right.value) else FALSE
            except TypeError:
                return Unknown("a comparison of different kinds")
        kinds = self.kind(left), self.kind(right)
        if kinds == ("int", "int"):
            return self.compared_ints(op, self.integer(left), self.integer(right))
        if kinds == ("text", "text") and op in ("eq", "ne"):
            if isinstance(left, Static):
                left, right = right, left
            cond = call("eq", self.text(left), self.text(right))
            return self.simplified(cond if op == "eq" else negated(cond))
        if kinds == ("truth", "truth") and op in ("eq", "ne"):
            a, b = condition_of(left), condition_of(right)
            assert a and b
            same = either(both(a, b), both(negated(a), negated(b)))
            return same if op == "eq" else negated(same)
        if isinstance(left, Record) and isinstance(right, Record) and left.kind == "message" and op in ("eq", "ne"):
            same = both(*(call("eq", field_of(left.expr, n), field_of(right.expr, n)) for n in ("Role", "Content")))
            return same if op == "eq" else negated(same)
        if isinstance(left, Json) and kinds[1] == "text" and op in ("eq", "ne"):
            same = both(self.is_type(left, "string"), call("eq", left.expr, self.text(right)))
            return same if op == "eq" else negated(same)
        if isinstance(left, ListOf) and isinstance(right, ListOf) and op in ("eq", "ne"):
            if not left.items or not right.items:
                return TRUE if (left.items == right.items) is (op == "eq") else FALSE
        if all(kinds) and kinds[0] != kinds[1] and "json" not in kinds and op in ("eq", "ne"):
            return FALSE if op == "eq" else TRUE
        for value, other in ((left, right), (right, left)):
            if isinstance(value, Static) and not isinstance(other, Json) and op in ("eq", "ne"):
                return FALSE if op == "eq" else TRUE
        return Unknown(f"a comparison of a {type(left).__name__.lower()} with a {type(right).__name__.lower()}")

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
            case DictOf():
                return self.contained(left, ListOf(tuple(key for key, _ in right.items)))
            case Static(value=str()) if isinstance(left, Static):
                return TRUE if str(left.value) in right.value else FALSE
            case Listing(mapping=True, kind="json") if self.kind(left) == "text":
                there = call("index", right.expr, self.text(left))
                return call("ne", call("printf", string("%v"), there), string("<nil>"))
            case _ if self.kind(right) == "text" and isinstance(left, Static) and isinstance(left.value, str):
                return self.contains(right, left.value)
            case Static(value=None | Undefined()):
                return FALSE
        return Unknown("what is in a " + type(right).__name__.lower())

    # --- tests ------------------------------------------------------------------------------------------------------

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
        is_text, is_list = kind == "text", isinstance(value, Listing | ListOf | Filtered | Split) and not _is_map(value)
        is_map = _is_map(value)
        answers = {
            "string": is_text,
            "mapping": is_map,
            "boolean": kind == "truth",
            "number": kind in ("int", "truth"),
            "integer": kind == "int",
            "iterable": is_text or is_list or is_map or value == NOTHING,
            "sequence": is_text or is_list or is_map or value == NOTHING,
            "callable": isinstance(value, Macro | Method),
        }
        if test in answers and (kind or known or is_list or is_map or isinstance(value, Method | Macro | Namespace)):
            return TRUE if answers[test] else FALSE
        return Unknown(f"test {test}")

    def json_passes(self, value: Json, test: str) -> Expr | Unknown:
        if test in TYPES:
            return self.is_type(value, TYPES[test])
        if test in ("iterable", "sequence"):
            return self.is_type(value, "string", "[]interface {}", "map[string]interface {}")
        return Unknown(f"test {test} of an argument")

    def is_type(self, value: Json, *types: str) -> Expr:
        return call("eq", call("printf", string("%T"), value.expr), *map(string, types))

    def defined(self, value: Value) -> Expr | Unknown:
        return self.passes(value, "defined", [])

    # --- parts ------------------------------------------------------------------------------------------------------

    def item(self, of: Value, key: Value) -> Value:
        if isinstance(of, Choice):
            return choice(of.cond, self.item(of.yes, key), self.item(of.no, key))
        if isinstance(key, Choice):
            return choice(key.cond, self.item(of, key.yes), self.item(of, key.no))
        if isinstance(of, Unknown):
            return of
        if isinstance(key, Static) and isinstance(key.value, str):
            match of:
                case Record():
                    field = SHAPES[of.kind].get(key.value)
                    return field(of.expr) if field else NOTHING
                case DictOf():
                    return next((value for name, value in of.items if name == key), NOTHING)
            return self.attribute(of, key.value)
        match of:
            case ListOf() if isinstance(key, Static) and isinstance(key.value, int):
                return of.items[key.value] if -len(of.items) <= key.value < len(of.items) else NOTHING
            case Listing(mapping=False, backwards=False) if self.kind(key) == "int":
                at = self.integer(key)
                if not at.terms and at.constant < 0:
                    at = Int(((call("len", of.expr), 1),), at.constant)
                return element(of.kind, call("index", of.expr, self.sum_of(at)))
            case Filtered() if isinstance(key, Static) and key.value in (0, -1):
                return self.found(of, last=key.value == -1)
            case Split() if isinstance(key, Static) and isinstance(key.value, int):
                return self.piece(of, key.value)
            case Static(value=str()) if isinstance(key, Static) and isinstance(key.value, int):
                return Static(of.value[key.value]) if -len(of.value) <= key.value < len(of.value) else NOTHING
            case Listing(mapping=True) if self.kind(key) == "text":
                return element(of.kind, call("index", of.expr, self.text(key)))
        return Unknown(f"an item of a {type(of).__name__.lower()}")

    def attribute(self, of: Value, name: str) -> Value:
        match of:
            case Choice():
                return choice(of.cond, self.attribute(of.yes, name), self.attribute(of.no, name))
            case Unknown():
                return of
            case Record():
                return Method(of, name) if hasattr(dict, name) else self.item(of, Static(name))
            case Namespace():
                return self.env.get(f"{of.name}.{name}", NOTHING)
            case Loop():
                return self.loop_attribute(of, name)
            case DictOf():
                return Method(of, name) if hasattr(dict, name) else self.item(of, Static(name))
            case Listing() | ListOf():
                if name in ("get", "items", "keys", "values", "append", "pop"):
                    return Method(of, name)
                if isinstance(of, Listing) and of.mapping and of.kind == "json":
                    there = call("index", of.expr, string(name))
                    return Choice(
                        call("ne", call("printf", string("%v"), there), string("<nil>")), Json(there), NOTHING
                    )
                return Unknown(f"{name} of a list")
            case Static(value=Undefined() | None):
                return NOTHING
            case Json():
                return Method(of, name) if name in ("items", "get", "keys") else Unknown(f"{name} of an argument")
        return Method(of, name) if self.kind(of) == "text" and hasattr(str, name) else NOTHING

    def loop_attribute(self, loop: Loop, name: str) -> Value:
        match name:
            case "index0":
                return loop.index
            case "index":
                return Int(loop.index.terms, loop.index.constant + 1)
            case "first":
                return truth_value(loop.first)
            case "last":
                return truth_value(loop.last)
            case "length":
                return loop.length
        over = loop.over
        if isinstance(over, Listing) and not over.mapping and not over.backwards:
            at = loop.index.terms[0][0]
            if name == "nextitem":
                after = element(over.kind, call("index", call("slice", over.expr, at), number(1)))
                return choice(negated(loop.last), after, NOTHING)
            if name == "previtem":
                before = element(over.kind, call("index", over.expr, self.sum_of(Int(loop.index.terms, -1))))
                return choice(negated(loop.first), before, NOTHING)
        return Unknown(f"loop.{name}")

    def sliced(self, of: Value, part: jinja.Slice) -> Value:
        if isinstance(of, Choice):
            return choice(of.cond, self.sliced(of.yes, part), self.sliced(of.no, part))
        start, stop, step = (self.value(p) if p is not None else NONE for p in (part.start, part.stop, part.step))
        if isinstance(of, Static) and isinstance(of.value, str) and all(isinstance(p, Static) for p in (start, stop, step)):
            return Static(of.value[slice(*(p.value for p in (start, stop, step)))])  # type: ignore[attr-defined]
        if isinstance(of, ListOf) and all(isinstance(p, Static) for p in (start, stop, step)):
            return ListOf(of.items[slice(*(p.value for p in (start, stop, step)))])  # type: ignore[attr-defined]
        if not isinstance(of, Listing) or of.mapping or of.backwards:
            return Unknown(f"a part of a {type(of).__name__.lower()}")
        if step == Static(-1) and start == NONE and stop == NONE:
            return Listing(of.kind, of.expr, backwards=True)
        if step not in (NONE, Static(1)) or {self.kind(start), self.kind(stop)} - {"int", ""}:
            return Unknown("a part of a list")
        expr = of.expr
        if stop != NONE:
            end = self.integer(stop)
            if not end.terms and end.constant < 0:
                expr = call("slice", expr, number(0), self.sum_of(Int(((call("len", expr), 1),), end.constant)))
            else:
                expr = call("slice", expr, number(0), self.sum_of(end))
        if start not in (NONE, Static(0)):
            begin = self.integer(start)
            if not begin.terms and begin.constant < 0:
                return Unknown("the end of a list")
            expr = call("slice", expr, self.sum_of(begin))
        return Listing(of.kind, expr)

    def found(self, of: Filtered, *, last: bool) -> Value:
        """The first or last element that passes."""
        key = f"found {of.base.expr} {last} {of.test(element(of.base.kind, Expr('$x')))}"
        if key in self.cache:
            return self.cache[key]
        item = self.fresh("one")
        name = self.declare("found", EMPTY)
        test = self.simplified(of.test(element(of.base.kind, Expr(item))))
        body: Nodes = [Set(name, Expr(item))]
        if not last:
            body.insert(0, If(Expr(name), [], []))
        inner = test if last else both(negated(Expr(name)), test)
        self.out.append(Range(self.fresh("i"), item, of.base.expr, [If(inner, body)]))
        value = choice(Expr(name), element(of.base.kind, Expr(name)), NOTHING)
        self.cache[key] = value
        return value

    # --- numbers ----------------------------------------------------------------------------------------------------

    def integer(self, value: Value) -> Int:
        if isinstance(value, Static):
            return Int((), int(value.value))
        assert isinstance(value, Int)
        return value

    def added(self, left: Value, right: Value) -> Value:
        for value, other, swap in ((left, right, False), (right, left, True)):
            if isinstance(value, Unknown):
                return value
            if isinstance(value, Choice) and not (self.kind(left) == "text" and self.kind(right) == "text"):
                pair = lambda side: (other, side) if swap else (side, other)  # noqa: B023, E731
                return choice(value.cond, self.added(*pair(value.yes)), self.added(*pair(value.no)))
        kinds = self.kind(left), self.kind(right)
        if kinds == ("int", "int"):
            return self.total(self.integer(left), self.integer(right), 1)
        if isinstance(left, ListOf) and isinstance(right, ListOf):
            return ListOf(left.items + right.items)
        if "text" in kinds:
            if NONE in (left, right) or not all(k == "text" or isinstance(v, Json | Static) for k, v in zip(kinds, (left, right), strict=True)):
                return Unknown("a sum of different kinds")
            return self.concat((left, right))
        return Unknown(f"a sum of a {type(left).__name__.lower()} and a {type(right).__name__.lower()}")

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
        if len(plus.terms) == 1 and plus.terms[0][0].text == "len" and not minus.terms and not plus.constant:
            if minus.constant == 0:
                item = plus.terms[0][0].args[0]
                if op in ("gt", "ne"):
                    return self.simplified(item)
                if op in ("eq", "lteq"):
                    return self.simplified(negated(item))
                return TRUE if op == "gteq" else FALSE
        if minus == Int(()) and plus.constant:
            minus, plus = Int((), -plus.constant), Int(plus.terms)
        return self.simplified(call(GO[op], self.sum_of(plus), self.sum_of(minus)))

    def length(self, value: Value) -> Value:
        match value:
            case Choice():
                return choice(value.cond, self.length(value.yes), self.length(value.no))
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
            return Int(((call("len", self.text(value)), 1),))
        return value if isinstance(value, Unknown) else Unknown(f"the length of a {type(value).__name__.lower()}")

    # --- calls ------------------------------------------------------------------------------------------------------

    def call_of(self, node: jinja.Call) -> Value:
        args = [self.value(argument) for argument in node.args]
        named = {argument.key: self.value(argument.value) for argument in node.kwargs}
        if isinstance(node.node, jinja.Getattr):
            of, name = self.value(node.node.node), node.node.attr
            return self.each(of, lambda one: self.method(one, name, args))
        function = self.value(node.node)
        match function:
            case Macro():
                return self.called(function, args, named)
            case Method(of=Static(value=Undefined())):
                return self.builtin(function.name, args, named)
            case Choice():
                return Unknown("a call of one of two functions")
            case Unknown():
                return function
        raise Raised  # undefined is not callable

    def each(self, value: Value, change: Callable[[Value], Value]) -> Value:
        """A change of a value, or of each that it may be: texts are made one first."""
        if isinstance(value, Choice):
            if self.kind(value) == "text" and not _woven(value):
                return change(Str(self.text(value)))
            if isinstance(value.no, Static) and value.no.value in (None, UNDEFINED):
                yes = self.each(value.yes, change)
                try:
                    return choice(value.cond, yes, self.each(value.no, change))
                except Raised:
                    return yes
            return choice(value.cond, self.each(value.yes, change), self.each(value.no, change))
        return change(value)

    def called(self, macro: Macro, args: list[Value], named: dict[str, Value]) -> Value:
        raise NotImplementedError

    def builtin(self, name: str, args: list[Value], named: dict[str, Value]) -> Value:
        if name == "raise_exception":
            raise Raised
        if name == "strftime_now" and len(args) == 1 and isinstance(args[0], Static):
            return self.date(str(args[0].value))
        if name == "range" and all(isinstance(arg, Static) and isinstance(arg.value, int) for arg in args):
            numbers = range(*(arg.value for arg in args))  # type: ignore[attr-defined]
            if len(numbers) <= 64:
                return ListOf(tuple(Static(value) for value in numbers))
        if name == "dict" and not args:
            return DictOf(tuple((Static(key), value) for key, value in named.items()))
        return Unknown(f"function {name}")

    def method(self, of: Value, name: str, args: list[Value]) -> Value:
        if isinstance(of, Unknown):
            return of
        if name == "get" and args and isinstance(of, Record | DictOf | Listing):
            found = self.item(of, args[0])
            default = args[1] if len(args) > 1 else NONE
            return mapped(found, lambda value: default if value == NOTHING else value)
        if name == "items":
            return Items(of)
        if name == "keys" and isinstance(of, Record | Listing):
            return of
        if self.kind(of) == "text":
            return self.string_method(of, name, args)
        if of in (NOTHING, NONE):
            raise Raised
        return Unknown(f".{name}() of a {type(of).__name__.lower()}")

    def filtered(self, node: jinja.Filter, value: Value) -> Value:
        args = [self.value(argument) for argument in node.args]
        named = {argument.key: self.value(argument.value) for argument in node.kwargs}
        return self.filter(node.name, value, args, named)

    def filter(self, name: str, value: Value, args: list[Value], named: dict[str, Value]) -> Value:
        if isinstance(value, Unknown):
            return value
        match name:
            case "default" | "d":
                default = args[0] if args else Static("")
                if len(args) > 1 or "boolean" in named:
                    cond = self.truth(value)
                    return cond if isinstance(cond, Unknown) else choice(self.stable_of(cond), value, default)
                return mapped(value, lambda one: default if one == NOTHING else one)
            case "list" | "safe":
                return value
            case "length" | "count":
                return self.length(value)
            case "items":
                return mapped(value, lambda one: one if isinstance(one, Static) else Items(one))
            case "dictsort":
                return mapped(value, lambda one: one if isinstance(one, Static) else Items(one))
            case "tojson":
                return self.json_of(value, named, args)
            case "string":
                return mapped(value, self.string_of)
            case "join" if not args or isinstance(args[0], Static):
                return mapped(value, lambda one: self.joined(one, str(args[0].value) if args else ""))  # type: ignore[attr-defined]
            case "first":
                return self.item(value, Static(0))
            case "last":
                return self.item(value, Static(-1))
            case "selectattr" | "rejectattr" if isinstance(value, Listing) and not value.mapping:
                return self.selected(value, args, reject=name == "rejectattr")
            case "trim":
                return self.each(value, lambda one: self.string_method(self.string_of(one), "strip", args))
            case "lower" | "upper" | "replace" | "title" | "capitalize":
                return self.each(value, lambda one: self.string_method(self.string_of(one), name, args))
        return Unknown(f"filter {name}")

    def string_of(self, value: Value) -> Value:
        if isinstance(value, Static):
            return Static("" if value == NOTHING else str(value.value))
        if isinstance(value, Json):
            return Rope([Template("str", value.expr)])
        if isinstance(value, Truth):
            return Choice(value.cond, Static("True"), Static("False"))
        if isinstance(value, Int):
            return Str(call("print", self.sum_of(value)))
        if self.kind(value) == "text":
            return value
        return Unknown(f"the text of a {type(value).__name__.lower()}")

    def selected(self, value: Listing, args: list[Value], *, reject: bool) -> Value:
        name = args[0].value if args and isinstance(args[0], Static) else None
        test = args[1].value if len(args) > 1 and isinstance(args[1], Static) else "defined"
        if not isinstance(name, str):
            return Unknown("selectattr")

        def passes(item: Value) -> Expr:
            field = self.attribute(item, name)
            cond = self.truth(field) if len(args) == 1 else self.passes(field, str(test), args[2:])
            if isinstance(cond, Unknown):
                raise CannotDerive(cond.why)
            return negated(cond) if reject else cond

        return Filtered(value, passes)

    def joined(self, value: Value, separator: str) -> Value:
        if isinstance(value, ListOf):
            parts: list[Value] = []
            for at, item in enumerate(value.items):
                parts.extend([Static(separator), item] if at else [item])
            return self.concat(tuple(parts))
        if isinstance(value, Listing) and not value.mapping and value.kind in ("string", "json"):
            index, item = self.fresh("i"), self.fresh("item")
            body: Nodes = [If(Expr(index), [Text(separator)])]
            body.append(Print(Expr(item)) if value.kind == "string" else Template("str", Expr(item)))
            return Rope([Range(index, item, value.expr, body)])
        if isinstance(value, Static) and value.value in (None, UNDEFINED):
            return Static("")
        return Unknown(f"join of a {type(value).__name__.lower()}")

    # --- JSON -------------------------------------------------------------------------------------------------------

    def json_of(self, value: Value, named: dict[str, Value], args: list[Value]) -> Value:
        indent = named.get("indent") or (args[0] if args else NONE)
        if indent != NONE:
            return self.json_indented(value, indent)
        if set(named) - {"ensure_ascii", "indent"}:
            return Unknown("tojson with " + ", ".join(named))
        match value:
            case Choice():
                return choice(value.cond, self.json_of(value.yes, named, args), self.json_of(value.no, named, args))
            case Static(value=Undefined()):
                raise Raised
            case Static():
                return Static(json.dumps(value.value, ensure_ascii=False))
            case Truth():
                return Choice(value.cond, Static("true"), Static("false"))
            case Int():
                return Str(call("print", self.sum_of(value)))
            case Json():
                return Rope([Template("json", value.expr)])
            case Record() if value.kind in ("tool", "function", "parameters", "property"):
                return Rope([Template(f"json {value.kind}", value.expr)])
            case Listing(mapping=True, kind="json"):
                return Rope([Template("json arguments", value.expr)])
            case Listing(mapping=True, kind="property"):
                return Rope([Template("json properties", value.expr)])
            case Listing(kind="tool" | "string" | "json"):
                index, item = self.fresh("i"), self.fresh("item")
                inner = self.json_of(element(value.kind, Expr(item)), {}, [])
                assert isinstance(inner, Rope)
                loop = Range(index, item, value.expr, [If(Expr(index), [Text(", ")]), *inner.nodes])
                return Rope([Text("["), loop, Text("]")])
            case Filtered(base=base):
                return Unknown(f"JSON of some {base.kind}s")
            case ListOf():
                parts: list[Value] = [Static("[")]
                for at, item in enumerate(value.items):
                    parts += [Static(", "), self.json_of(item, {}, [])] if at else [self.json_of(item, {}, [])]
                return self.concat((*parts, Static("]")))
            case DictOf():
                pairs: list[Value] = [Static("{")]
                for at, (key, item) in enumerate(value.items):
                    pairs += [Static(", ")] if at else []
                    pairs += [self.json_of(key, {}, []), Static(": "), self.json_of(item, {}, [])]
                return self.concat((*pairs, Static("}")))
            case _ if self.kind(value) == "text":
                return Rope([Template("json string", self.text(value))])
        return value if isinstance(value, Unknown) else Unknown(f"JSON of a {type(value).__name__.lower()}")

    def json_indented(self, value: Value, indent: Value) -> Value:
        return Unknown("tojson with indent")


def _function(name: str) -> Value:
    known = ("raise_exception", "strftime_now", "namespace", "range", "dict")
    return Method(NOTHING, name) if name in known else NOTHING


def _woven(value: Value) -> bool:
    """Whether other templates write parts of a text."""
    if isinstance(value, Choice):
        return _woven(value.yes) or _woven(value.no)
    if isinstance(value, Concat):
        return any(_woven(part) for part in value.parts)
    return isinstance(value, Rope) and any(isinstance(node, Template) for node in walk(value.nodes))


def _is_map(value: Value) -> bool:
    return isinstance(value, Record | DictOf) or (isinstance(value, Listing) and value.mapping)
