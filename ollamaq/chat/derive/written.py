"""Values as texts: Python's ``str``, ``json.dumps`` and ``join``."""

from __future__ import annotations

import json
from collections.abc import Callable

from ollamaq.chat.derive.conditions import Conditions
from ollamaq.chat.derive.go import (
    EMPTY,
    Begin,
    Declare,
    Expr,
    If,
    Node,
    Nodes,
    Print,
    Range,
    Set,
    Template,
    Text,
    call,
    rewritten,
)
from ollamaq.chat.derive.shapes import SHAPES, element
from ollamaq.chat.derive.state import CannotDerive
from ollamaq.chat.derive.values import (
    NONE,
    NOTHING,
    UNDEFINED,
    Choice,
    Concat,
    DictOf,
    Gathered,
    Int,
    Json,
    Listing,
    ListOf,
    Mapped,
    Pieces,
    Raised,
    Record,
    Rope,
    Split,
    Static,
    Str,
    Truth,
    Undefined,
    Unknown,
    Value,
    mapped,
)

HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", '"': "&#34;"})


class Written(Conditions):
    """Texts of values, some of which other templates write."""

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
        if isinstance(value, Record) and value.kind in ("tool", "function", "parameters", "property"):
            return Rope([Template(f"repr {value.kind}", value.expr)])
        if isinstance(value, Listing) and value.mapping:
            return Rope([Template("repr arguments" if value.kind == "json" else "repr properties", value.expr)])
        return Unknown(f"the text of a {type(value).__name__.lower()}")

    def nodes_of(self, value: Value) -> Nodes:
        raise NotImplementedError

    def attribute(self, of: Value, name: str) -> Value:
        raise NotImplementedError

    def joined(self, value: Value, separator: Value) -> Value:
        if isinstance(value, ListOf):
            parts: list[Value] = []
            for at, item in enumerate(value.items):
                parts.extend([separator, item] if at else [item])
            return self.concat(tuple(parts))
        if isinstance(value, Listing) and not value.mapping and value.kind in ("string", "json"):
            index, one = self.fresh("i"), self.fresh("item")
            body: Nodes = [If(Expr(index), self.nodes_of(separator))]
            body.append(Print(Expr(one)) if value.kind == "string" else Template("str", Expr(one)))
            return Rope([Range(index, one, value.expr, body)])
        if isinstance(value, Gathered):
            between = Expr(self.fresh("next"))
            begun: Nodes = [Print(between), Set(between.text, self.text(separator))]
            nodes = rewritten(value.nodes, lambda node: begun if isinstance(node, Begin) else [node])
            return Rope([Declare(between.text, EMPTY), *nodes])
        if isinstance(value, Mapped):
            index, one = self.fresh("i"), self.fresh("item")
            item = self.attribute(element(value.base.kind, Expr(one)), value.name)
            return Rope(
                [Range(index, one, value.base.expr, [If(Expr(index), self.nodes_of(separator)), *self.nodes_of(item)])]
            )
        if isinstance(value, Split) and Static(value.separator) == separator and not value.once:
            return Str(value.expr)
        if isinstance(value, Split):
            value = self.pieces_of(value)
        if isinstance(value, Pieces):
            return Rope(
                self.each_piece(
                    value,
                    "item",
                    lambda item, begin, _: [If(begin, self.nodes_of(separator)), Print(item)],
                )
            )
        if isinstance(value, Static) and value.value in (None, UNDEFINED):
            return Static("")
        return Unknown(f"join of a {type(value).__name__.lower()}")

    def json_of(self, value: Value, named: dict[str, Value], args: list[Value]) -> Value:
        indent = named.get("indent") or (args[0] if args else NONE)
        if set(named) - {"ensure_ascii", "indent"} or not isinstance(indent, Static):
            return Unknown("tojson with " + ", ".join(named))
        made = self.json_at(value, indent.value if isinstance(indent.value, int) else None, 0)
        return made if named.get("ensure_ascii", Static(False)) == Static(False) else in_ascii(made)

    def json_at(self, value: Value, width: int | None, depth: int) -> Value:
        """JSON at a depth of indented JSON, or on one line where ``width`` is None."""
        suffix = "" if width is None else f" {width} {depth}"
        match value:
            case Choice():
                return mapped(value, lambda one: self.json_at(one, width, depth))
            case Static(value=Undefined()):
                raise Raised
            case Static():
                return Static(json.dumps(value.value, ensure_ascii=False))
            case Truth():
                return Choice(value.cond, Static("true"), Static("false"))
            case Int():
                return Str(call("print", self.sum_of(value)))
            case Json():
                return Rope([Template(f"json{suffix}", value.expr)])
            case Record() if value.kind in ("tool", "function", "parameters", "property"):
                return Rope([Template(f"json {value.kind}{suffix}", value.expr)])
            case Record(kind="called", expr=expr):
                pairs = tuple((Static(name), field(expr)) for name, field in SHAPES["called"].items())
                return self.json_at(DictOf(pairs), width, depth)
            case Listing(mapping=True, kind="json"):
                return Rope([Template(f"json arguments{suffix}", value.expr)])
            case Listing(mapping=True, kind="property"):
                return Rope([Template(f"json properties{suffix}", value.expr)])
            case Listing(kind="tool" | "string" | "json"):
                return self.json_list(value.expr, lambda one: element(value.kind, one), width, depth)
            case Mapped(base, name):
                return self.json_list(
                    base.expr, lambda one: self.attribute(element(base.kind, one), name), width, depth
                )
            case ListOf():
                return self.bracketed(
                    "[]", [[self.json_at(item, width, depth + 1)] for item in value.items], width, depth
                )
            case DictOf():
                members = [
                    [self.json_at(key, width, depth + 1), Static(": "), self.json_at(item, width, depth + 1)]
                    for key, item in value.items
                ]
                return self.bracketed("{}", members, width, depth)
            case _ if self.kind(value) == "text":
                return Rope([Template("json string", self.text(value))])
        return value if isinstance(value, Unknown) else Unknown(f"JSON of a {type(value).__name__.lower()}")

    def json_list(self, over: Expr, of: Callable[[Expr], Value], width: int | None, depth: int) -> Value:
        opened, between, closed = _separators(width, depth)
        index, one = self.fresh("i"), self.fresh("item")
        inner = self.nodes_of(self.json_at(of(Expr(one)), width, depth + 1))
        first: Nodes = [If(Expr(index), [Text(between)], [Text(opened)])]
        loop = Range(index, one, over, [*first, *inner])
        return Rope([Text("["), loop, If(over, [Text(closed)]), Text("]")])

    def bracketed(self, brackets: str, elements: list[list[Value]], width: int | None, depth: int) -> Value:
        opened, between, closed = _separators(width, depth)
        parts: list[Value] = [Static(brackets[0])]
        for at, element_parts in enumerate(elements):
            parts += [Static(between if at else opened), *element_parts]
        return self.concat((*parts, Static((closed if elements else "") + brackets[1])))


def in_ascii(value: Value) -> Value:
    """JSON with what is beyond ASCII escaped."""
    return _escaped(value, "ascii", lambda text: "".join(c if c < "\x7f" else json.dumps(c)[1:-1] for c in text))


def in_html(value: Value) -> Value:
    """A text with what HTML has other signs for escaped."""
    return _escaped(value, "html", lambda text: text.translate(HTML))


def _escaped(value: Value, how: str, static: Callable[[str], str]) -> Value:
    """With other templates called for what they write, whose names begin with ``how``."""

    def one(node: Node) -> Nodes:
        match node:
            case Template() if node.name.startswith("json"):
                return [Template(f"{how} {node.name}", node.expr)]
            case Template():
                raise CannotDerive(f"what another template writes, in {how}")
            case Text():
                return [Text(static(node.text))]
            case Print() if how == "html":
                return [Print(call(how, node.expr), node.said)]
        return [node]

    match value:
        case Choice():
            return Choice(value.cond, *(_escaped(side, how, static) for side in (value.yes, value.no)))
        case Concat():
            return Concat(tuple(_escaped(part, how, static) for part in value.parts))
        case Static(value=str()):
            return Static(static(value.value))
        case Str() if how == "html":
            return Str(call(how, value.expr))
        case Rope():
            return Rope(rewritten(value.nodes, one))
    return value


def _separators(width: int | None, depth: int) -> tuple[str, str, str]:
    """What comes before the first element, between two, and after the last."""
    if width is None:
        return "", ", ", ""
    inner, outer = "\n" + " " * width * (depth + 1), "\n" + " " * width * depth
    return inner, "," + inner, outer
