"""Values as texts: Python's ``str``, ``json.dumps`` and ``join``."""

from __future__ import annotations

import json

from ollamaq.chat.derive.conditions import Conditions
from ollamaq.chat.derive.go import (
    Expr,
    If,
    Nodes,
    Print,
    Range,
    Template,
    Text,
    call,
)
from ollamaq.chat.derive.shapes import element
from ollamaq.chat.derive.values import (
    NONE,
    NOTHING,
    UNDEFINED,
    Choice,
    DictOf,
    Filtered,
    Int,
    Json,
    Listing,
    ListOf,
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
        return Unknown(f"the text of a {type(value).__name__.lower()}")

    def joined(self, value: Value, separator: str) -> Value:
        if isinstance(value, ListOf):
            parts: list[Value] = []
            for at, item in enumerate(value.items):
                parts.extend([Static(separator), item] if at else [item])
            return self.concat(tuple(parts))
        if isinstance(value, Listing) and not value.mapping and value.kind in ("string", "json"):
            index, one = self.fresh("i"), self.fresh("item")
            body: Nodes = [If(Expr(index), [Text(separator)])]
            body.append(Print(Expr(one)) if value.kind == "string" else Template("str", Expr(one)))
            return Rope([Range(index, one, value.expr, body)])
        if isinstance(value, Split):
            value = self.pieces_of(value)
        if isinstance(value, Pieces):
            return Rope(
                self.each_piece(
                    value,
                    "item",
                    lambda item, begin, _: [If(begin, [Text(separator)]), Print(item)],
                )
            )
        if isinstance(value, Static) and value.value in (None, UNDEFINED):
            return Static("")
        return Unknown(f"join of a {type(value).__name__.lower()}")

    def json_of(self, value: Value, named: dict[str, Value], args: list[Value]) -> Value:
        indent = named.get("indent") or (args[0] if args else NONE)
        if indent != NONE:
            return self.json_indented(value, indent)
        if set(named) - {"ensure_ascii", "indent"}:
            return Unknown("tojson with " + ", ".join(named))
        match value:
            case Choice():
                return mapped(value, lambda one: self.json_of(one, named, args))
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
                index, one = self.fresh("i"), self.fresh("item")
                inner = self.json_of(element(value.kind, Expr(one)), {}, [])
                assert isinstance(inner, Rope)
                loop = Range(index, one, value.expr, [If(Expr(index), [Text(", ")]), *inner.nodes])
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
