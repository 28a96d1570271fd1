"""The expressions of a chat template, as values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import nodes as jinja

from ollamaq.chat.derive.conditions import TYPES
from ollamaq.chat.derive.go import (
    EMPTY,
    FALSE,
    TRUE,
    Expr,
    If,
    Nodes,
    Range,
    Set,
    both,
    call,
    negated,
    number,
    string,
)
from ollamaq.chat.derive.shapes import LAST, SHAPES, element
from ollamaq.chat.derive.state import CannotDerive
from ollamaq.chat.derive.strings import woven
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
    Loop,
    Macro,
    Mapped,
    Method,
    Namespace,
    Pieces,
    Raised,
    Record,
    Span,
    Split,
    Static,
    Str,
    Told,
    Undefined,
    Unknown,
    Value,
    choice,
    either_way,
    mapped,
    truth_value,
)
from ollamaq.chat.derive.written import Written, in_html


class Expressions(Written):
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
            case jinja.Add() if (sides := [_is_marked(side) for side in (node.left, node.right)]) and any(sides):
                values = [self.value(side) for side in (node.left, node.right)]
                return self.added(*(v if marked else in_html(v) for v, marked in zip(values, sides, strict=True)))
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

    def item(self, of: Value, key: Value) -> Value:
        if isinstance(of, Choice):
            return mapped(of, lambda one: self.item(one, key))
        if isinstance(key, Choice):
            return mapped(key, lambda one: self.item(of, one))
        if isinstance(of, Unknown):
            return of
        if isinstance(key, Static) and isinstance(key.value, str):
            if isinstance(of, Json):
                return self.member(of, key.value)
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
                if at == Int((), -1) and self.ends_alike(of.expr):
                    return element(of.kind, LAST)
                if not at.terms and at.constant < 0:
                    at = Int(((call("len", of.expr), 1),), at.constant)
                return element(of.kind, call("index", of.expr, self.sum_of(at)))
            case Filtered() if isinstance(key, Static) and key.value in (0, -1):
                return self.found(of, last=key.value == -1)
            case Pieces() if isinstance(key, Static) and isinstance(key.value, int):
                return self.piece_at(of, key.value)
            case Split() if isinstance(key, Static) and isinstance(key.value, int):
                return self.piece(of, key.value)
            case Str() if key == Static(0):
                return choice(self.simplified(of.expr), Str(self.beginning(of.expr, number(1))), NOTHING)
            case Static(value=str()) if isinstance(key, Static) and isinstance(key.value, int):
                return Static(of.value[key.value]) if -len(of.value) <= key.value < len(of.value) else NOTHING
            case Listing(mapping=True) if self.kind(key) == "text":
                return element(of.kind, call("index", of.expr, self.text(key)))
        return Unknown(f"an item of a {type(of).__name__.lower()}")

    def attribute(self, of: Value, name: str) -> Value:
        match of:
            case Choice():
                return mapped(of, lambda one: self.attribute(one, name))
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
                return Method(of, name) if name in ("items", "get", "keys") else self.member(of, name)
        return Method(of, name) if self.kind(of) == "text" and hasattr(str, name) else NOTHING

    def member(self, of: Json, name: str) -> Value:
        """A member of what may be an object."""
        there = call("index", of.expr, string(name))
        found = both(
            self.is_type(of, TYPES["mapping"]), call("ne", call("printf", string("%v"), there), string("<nil>"))
        )
        return choice(self.simplified(found), Json(there), NOTHING)

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
            return mapped(of, lambda one: self.sliced(one, part))
        start, stop, step = (self.value(p) if p is not None else NONE for p in (part.start, part.stop, part.step))
        if (
            isinstance(of, Static)
            and isinstance(of.value, str)
            and all(isinstance(p, Static) for p in (start, stop, step))
        ):
            return Static(of.value[slice(*(p.value for p in (start, stop, step)))])  # type: ignore[attr-defined]
        if isinstance(of, ListOf) and all(isinstance(p, Static) for p in (start, stop, step)):
            return ListOf(of.items[slice(*(p.value for p in (start, stop, step)))])  # type: ignore[attr-defined]
        if isinstance(of, Split) and (start, stop, step) == (Static(1), NONE, NONE) and not of.once:
            cond = self.contains(Str(of.expr), of.separator)
            rest = self.piece(Split(of.expr, of.separator, once=True), 1)
            return choice(cond, Split(self.text(rest), of.separator), ListOf(()))
        if self.kind(of) == "text" and step in (NONE, Static(1)):
            return self.part_of_text(of, start, stop)
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

    def part_of_text(self, of: Value, start: Value, stop: Value) -> Value:
        """Characters of a text; places are counted from its beginning, but for an end that is known."""
        if start == NONE and isinstance(of, Concat) and isinstance(stop, Static) and (cut := _cut_off(of, stop.value)):
            return self.concat(cut)
        ends = [end for end in (start, stop) if end != NONE]
        if any(self.kind(end) != "int" or (isinstance(end, Static) and end.value < 0) for end in ends):
            return Unknown("a part of a text")
        expr = self.text(of)
        if stop != NONE:
            expr = self.beginning(expr, self.sum_of(self.integer(stop)))
        if start not in (NONE, Static(0)):
            expr = call("slice", expr, call("len", self.beginning(expr, self.sum_of(self.integer(start)))))
        return Str(expr)

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

    def added(self, left: Value, right: Value) -> Value:
        kinds = self.kind(left), self.kind(right)
        for value in (left, right):
            if isinstance(value, Unknown):
                return value
            if isinstance(value, Choice) and kinds != ("text", "text"):
                if value is left:
                    return either_way(value, lambda side: self.added(side, right))
                return either_way(value, lambda side: self.added(left, side))
        if kinds == ("int", "int"):
            return self.total(self.integer(left), self.integer(right), 1)
        if isinstance(left, ListOf) and isinstance(right, ListOf):
            return ListOf(left.items + right.items)
        if kinds == ("texts", "texts"):
            parts = (self.packed(side) if isinstance(side, ListOf) else side for side in (left, right))
            return Pieces(self.text(self.concat(tuple(Str(part.expr) for part in parts if isinstance(part, Pieces)))))
        if "text" in kinds:
            if NONE in (left, right):
                raise Raised
            if not all(k == "text" or isinstance(v, Json | Static) for k, v in zip(kinds, (left, right), strict=True)):
                return Unknown("a sum of different kinds")
            return self.concat((left, right))
        return Unknown(f"a sum of a {type(left).__name__.lower()} and a {type(right).__name__.lower()}")

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
            if self.kind(value) == "text" and not woven(value):
                return change(Str(self.text(value)))
            return mapped(value, lambda one: self.each(one, change))
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
        if name == "range" and args and all(self.kind(arg) == "int" for arg in args):
            return self.span([self.integer(arg) for arg in args])
        if name == "dict" and not args:
            return DictOf(tuple((Static(key), value) for key, value in named.items()))
        return Unknown(f"function {name}")

    def span(self, args: list[Int]) -> Value:
        start, stop = (Int(()), args[0]) if len(args) == 1 else args[:2]
        step = args[2] if len(args) > 2 else Int((), 1)
        if step not in (Int((), 1), Int((), -1)):
            return Unknown("a range in steps")
        ends = (stop, start) if step.constant == 1 else (start, stop)
        return Span(start, self.integer(self.total(*ends, -1)), step.constant)

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
        if self.kind(of) == "text" and name == "replace" and len(args) == 2 and not isinstance(args[1], Static):
            return self.replaced_by(of, *args)
        if self.kind(of) == "text":
            return self.string_method(of, name, args)
        if isinstance(of, Told) and name == "endswith":
            return self.told_ends(of.last, args)
        if of in (NOTHING, NONE):
            raise Raised
        return Unknown(f".{name}() of a {type(of).__name__.lower()}")

    def replaced_by(self, of: Value, old: Value, new: Value) -> Value:
        """With any text in the place of one that is known: what is between is joined by it."""
        pieces = self.string_method(of, "split", [old]) if isinstance(old, Static) and old.value else old
        if not isinstance(pieces, Split) or self.kind(new) != "text":
            return Unknown(".replace() with an argument that is not known")
        return self.joined(pieces, new)

    def told_ends(self, last: Value, args: list[Value]) -> Value:
        """Whether what is written ends with a character, by what was written last if that is not empty."""
        if self.truth(last) != TRUE or not all(isinstance(arg, Static) and len(str(arg.value)) == 1 for arg in args):
            return Unknown("how a text ends that is written")
        return self.string_method(last, "endswith", args)

    def filtered(self, node: jinja.Filter, value: Value) -> Value:
        args = [self.value(argument) for argument in node.args]
        named = {str(argument.key): self.value(argument.value) for argument in node.kwargs}
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
            case "map" if not args and named.keys() == {"attribute"} and isinstance(named["attribute"], Static):
                name = str(named["attribute"].value)
                return mapped(value, lambda one: self.attributes(one, name))
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
                return mapped(value, lambda one: self.joined(one, args[0] if args else Static("")))
            case "first":
                return self.item(value, Static(0))
            case "last":
                return self.item(value, Static(-1))
            case "selectattr" | "rejectattr":
                return mapped(value, lambda one: self.selected(one, args, reject=name == "rejectattr"))
            case "trim":
                return self.each(value, lambda one: self.string_method(self.string_of(one), "strip", args))
            case "lower" | "upper" | "replace" | "title" | "capitalize":
                return self.each(value, lambda one: self.string_method(self.string_of(one), name, args))
        return Unknown(f"filter {name}")

    def attributes(self, value: Value, name: str) -> Value:
        if value in (NONE, NOTHING):
            raise Raised
        if isinstance(value, Listing) and not value.mapping:
            return Mapped(value, name)
        return Unknown("filter map")

    def selected(self, value: Value, args: list[Value], *, reject: bool) -> Value:
        name = args[0].value if args and isinstance(args[0], Static) else None
        test = args[1].value if len(args) > 1 and isinstance(args[1], Static) else "defined"
        if value in (NONE, NOTHING):
            return ListOf(())
        if not isinstance(name, str) or not isinstance(value, Listing) or value.mapping:
            return Unknown("selectattr")

        def passes(item: Value) -> Expr:
            field = self.attribute(item, name)
            cond = self.truth(field) if len(args) == 1 else self.passes(field, str(test), args[2:])
            if isinstance(cond, Unknown):
                raise CannotDerive(cond.why)
            return negated(cond) if reject else cond

        return Filtered(value, passes)


def _cut_off(of: Concat, stop: object) -> tuple[Value, ...]:
    """The parts of a text but for so many of its last characters, if they are known."""
    *parts, last = of.parts
    if isinstance(last, Static) and isinstance(stop, int) and -len(last.value) <= stop < 0:
        return (*parts, Static(last.value[:stop]))
    return ()


def _is_marked(node: jinja.Node) -> bool:
    """Whether a text is safe HTML, so that what is added to it gets escaped."""
    if isinstance(node, jinja.Add):
        return _is_marked(node.left) or _is_marked(node.right)
    return isinstance(node, jinja.Filter) and node.name == "safe"


def _function(name: str) -> Value:
    known = ("raise_exception", "strftime_now", "namespace", "range", "dict")
    return Method(NOTHING, name) if name in known else NOTHING
