"""Loops, over what Go goes through, or one element after the other."""

from __future__ import annotations

from collections.abc import Callable

from jinja2 import nodes as jinja

from ollamaq.chat.derive.assignments import Assignments
from ollamaq.chat.derive.endings import cut, has_said
from ollamaq.chat.derive.go import (
    EMPTY,
    TRUE,
    Declare,
    Expr,
    If,
    Node,
    Nodes,
    Print,
    Range,
    Set,
    Template,
    both,
    call,
    negated,
    number,
    string,
    walk,
)
from ollamaq.chat.derive.shapes import MESSAGES, SHAPES, element
from ollamaq.chat.derive.state import CONTINUED, CannotDerive
from ollamaq.chat.derive.values import (
    NOTHING,
    Choice,
    DictOf,
    Filtered,
    Gathered,
    Int,
    Items,
    Json,
    Listing,
    ListOf,
    Loop,
    Pieces,
    Record,
    Rope,
    Span,
    Split,
    Static,
    Str,
    Told,
    Undefined,
    Unknown,
    Value,
    mapped,
)


class Loops(Assignments):
    """``for``."""

    def loop(self, node: jinja.For, over: Value) -> None:
        match over:
            case Choice(cond=cond, yes=Listing(expr=expr) as listing, no=Static()) if cond == expr:
                self.loop(node, listing)
            case Choice():
                self.branch(over.cond, lambda: self.loop(node, over.yes), lambda: self.loop(node, over.no))
            case Static(value=None | Undefined()):
                self.block(node.else_)
            case ListOf():
                self.unrolled(node, [(TRUE, item) for item in over.items])
            case Items(of=Record(kind=kind, expr=expr)) | Record(kind=kind, expr=expr):
                fields: list[tuple[Expr, Value]] = []
                for key, field in SHAPES[kind].items():
                    value = field(expr)
                    cond = value.cond if isinstance(value, Choice) else TRUE
                    pair = ListOf((Static(key), value.yes if isinstance(value, Choice) else value))
                    fields.append((cond, pair if isinstance(over, Items) else Static(key)))
                self.unrolled(node, fields)
            case Items(of=DictOf(items=pairs)):
                self.unrolled(node, [(TRUE, ListOf(pair)) for pair in pairs])
            case Items(of=Listing() as listing) if listing.mapping:
                self.ranged(node, listing, pairs=True)
            case Items(of=Json(expr=expr)):
                self.ranged(node, Listing("json", expr, mapping=True), pairs=True)
            case Json():
                self.ranged(node, Listing("json", over.expr))
            case Items(of=Choice() as either):
                self.loop(node, mapped(either, lambda one: one if isinstance(one, Static) else Items(one)))
            case Split():
                self.ranged(node, self.pieces_of(over))
            case Listing() | Span() | Pieces():
                self.ranged(node, over)
            case Filtered():
                self.ranged(node, over.base, only=over)
            case Unknown():
                raise CannotDerive(over.why)
            case _:
                raise CannotDerive(f"a loop over a {type(over).__name__.lower()} on line {node.lineno}")

    def unrolled(self, node: jinja.For, items: list[tuple[Expr, Value]]) -> None:
        for at, (cond, item) in enumerate(items):
            earlier, later = (both(*(negated(c) for c, _ in part)) for part in (items[:at], items[at + 1 :]))
            loop = Loop(Int((), at), earlier, later, Int((), len(items)), NOTHING)
            self.branch(cond, lambda item=item, loop=loop: self.iteration(node, item, loop), lambda: None)  # type: ignore[misc]

    def iteration(self, node: jinja.For, item: Value, loop: Value) -> None:
        """The body, once: what it assigns to plain variables is its own."""
        kept = self.env
        self.env = {**kept, "loop": loop}
        if self.accumulator in kept:
            self.env[self.accumulator] = Told(Unknown("how a text ends that is written in a loop"))
        self.bind(node.target, item)
        if node.test is None:
            self.block(node.body)
        else:
            self.conditional([(node.test, node.body)], [])
        self.env = {**kept, **{key: value for key, value in self.env.items() if "." in key}}

    def ranged(
        self, node: jinja.For, over: Listing | Span | Pieces, *, pairs: bool = False, only: Filtered | None = None
    ) -> None:
        outside = dict(self.mutable)
        grown = self.prepare(node)
        start = dict(self.env)
        kept = set(self.ignored)
        self.ignored |= grown
        self.out += self.range(node, over, pairs, only)
        self.ignored = kept
        after = self.env
        for key in sorted(grown):
            before, self.env = start[key], {**start, key: Static("")}
            sink, self.sink = self.sink, key
            try:
                made = self.range(node, over, pairs, only)
            finally:
                self.sink = sink
            gathered = key in self.gathering
            after[key] = Gathered([*_gathered(before), *made]) if gathered else self.concat((before, Rope(made)))
        self.env = after
        self.mutable = outside
        self.mutable_names = {name for name, _ in outside.values()}

    def range(self, node: jinja.For, over: Listing | Span | Pieces, pairs: bool, only: Filtered | None) -> Nodes:
        if isinstance(over, Span):
            return [self.counted(node, over)]
        if isinstance(over, Pieces):
            return self.cut_up(node, over)
        return [self.over_list(node, over, pairs, only)]

    def cut_up(self, node: jinja.For, over: Pieces) -> Nodes:
        count = Expr(self.declare("n", number(0)))

        def once(item: Expr, begin: Expr, at: Expr) -> Nodes:
            with self.inside(TRUE) as (out, _):
                self.known = [cond for cond in self.known if not cond.names() & self.mutable_names]
                last = call("eq", call("len", call("slice", over.expr, at)), number(len(over.separator.encode())))
                loop = Loop(Int(((count, 1),)), call("eq", begin, number(0)), last, Unknown("loop.length"), over)
                self.iteration(node, Str(item), loop)
                env = self.env
            self.env.update({key: entry for key, entry in env.items() if "." in key})
            return [*out, Set(count.text, call("len", call("printf", string("%*sx"), count, EMPTY)))]

        name = node.target.name if isinstance(node.target, jinja.Name) else "item"
        return [Set(count.text, number(0)), *self.each_piece(over, name, once)]

    def counted(self, node: jinja.For, over: Span) -> Range:
        index = self.fresh(node.target.name if isinstance(node.target, jinja.Name) else "n")
        at, count = Expr(index), self.sum_of(over.count)
        with self.inside(TRUE) as (out, _):
            self.known = [cond for cond in self.known if not cond.names() & self.mutable_names]
            last = self.compared_ints("eq", Int(((at, 1),), 1), over.count)
            loop = Loop(Int(((at, 1),)), call("eq", at, number(0)), last, over.count, over)
            value = self.total(over.start, Int(((at, 1),)), over.step)
            outside, self.counted_at = self.counted_at, self.pure(value)
            speakers = self.speakers
            self.iteration(node, value, loop)
            ends = [self.final[name] for name in self.speakers[len(speakers) :]]
            self.speakers, self.counted_at = speakers, outside
            env = self.env
        self.env.update({key: entry for key, entry in env.items() if "." in key})
        if ends and any(has_said(child) for child in out):
            out = cut(out, negated(both(CONTINUED, ends[0])))
        return Range(index, "", count, out)

    def over_list(self, node: jinja.For, over: Listing, pairs: bool, only: Filtered | None) -> Range:
        targets = (
            [name.name for name in node.target.items if isinstance(name, jinja.Name)]
            if isinstance(node.target, jinja.Tuple)
            else []
        )
        word = node.target.name if isinstance(node.target, jinja.Name) else "item"
        if over.mapping:
            index, item = self.fresh(targets[0] if targets else word), self.fresh(targets[1] if targets else "value")
        else:
            index, item = self.fresh("i"), self.fresh(word)
        at, count = Expr(index), call("len", over.expr)
        found = element(over.kind, Expr(item))
        with self.inside(TRUE) as (out, _):
            self.known = [cond for cond in self.known if not cond.names() & self.mutable_names]
            if over.mapping:
                counter = Expr(self.fresh("n"))
                position, last = counter, call("eq", call("len", call("printf", string("%*sx"), counter, EMPTY)), count)
                value: Value = ListOf((Str(at), found)) if pairs else Str(at)
            else:
                position, last = at, call("eq", call("len", call("slice", over.expr, at)), number(1))
                value = found
                if over.backwards:
                    place = call("len", call("slice", call("slice", over.expr, at), number(1)))
                    out.append(Declare(item, call("index", over.expr, place)))
            self.of_tools += over.kind not in MESSAGES
            speakers = self.speakers
            if over.kind in MESSAGES:
                self.speakers = [*self.speakers, item]
                self.final[item] = self.ends_at(over.expr, at)
            loop = Loop(Int(((position, 1),)), call("eq", position, number(0)), last, Int(((count, 1),)), over)
            body: Callable[[], None] = lambda: self.iteration(node, value, loop)  # noqa: E731
            if only is None:
                body()
            else:
                odd = Unknown("the place of an element of a filtered list")
                body = lambda: self.iteration(node, value, odd)  # noqa: E731
                self.branch(only.test(value), body, lambda: None)
            env = self.env
        self.of_tools -= over.kind not in MESSAGES
        self.speakers = speakers
        self.env.update({key: entry for key, entry in env.items() if "." in key})
        if over.kind in MESSAGES and not over.backwards and any(has_said(child) for child in out):
            out = cut(out, negated(both(CONTINUED, self.ends_at(over.expr, at))))
        if over.mapping and any(counter.text in _names(child) for child in walk(out)):
            self.out.append(Declare(counter.text, number(0)))
            out.append(Set(counter.text, call("len", call("printf", string("%*sx"), counter, EMPTY))))
        return Range(index, "$_" if over.backwards else item, over.expr, out)


def _gathered(value: Value) -> Nodes:
    return value.nodes if isinstance(value, Gathered) else []


def _names(node: Node) -> set[str]:
    match node:
        case Print() | Template() | Declare() | Set():
            return node.expr.names()
        case If():
            return node.cond.names()
        case Range():
            return node.over.names()
    return set()
