"""The statements of a chat template, as nodes of a Go template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jinja2 import nodes as jinja

from ollamaq.chat.derive.adding_up import accumulator, appended, is_read, makes_namespace, only_joined
from ollamaq.chat.derive.expressions import Expressions
from ollamaq.chat.derive.go import (
    EMPTY,
    FALSE,
    TRUE,
    Begin,
    Break,
    Declare,
    Expr,
    If,
    Node,
    Nodes,
    Print,
    Range,
    Set,
    Strip,
    Template,
    Text,
    both,
    call,
    field_of,
    negated,
    number,
    pruned,
    read_names,
    rewritten,
    string,
    walk,
)
from ollamaq.chat.derive.shapes import GIVEN, LAST, MESSAGES, SHAPES, element
from ollamaq.chat.derive.state import ASSISTANT, CannotDerive, Learned
from ollamaq.chat.derive.strings import woven
from ollamaq.chat.derive.values import (
    NONE,
    NOTHING,
    UNDEFINED,
    Choice,
    Concat,
    DictOf,
    Filtered,
    Gathered,
    Int,
    Items,
    Json,
    Listing,
    ListOf,
    Loop,
    Macro,
    Namespace,
    Pieces,
    Raised,
    Record,
    Rope,
    Span,
    Split,
    Static,
    Str,
    Told,
    Truth,
    Undefined,
    Unknown,
    Value,
    choice,
    condition_of,
    mapped,
)

TOOLS = Expr("$.Tools")
CONTINUED = Expr("$continued")


MAX_DEFINED = 8
"""Templates made of macros that call themselves."""
MAX_STATEMENTS = 20_000
"""Gone through, those in macros and loops each time."""


class Translator(Expressions):
    """Goes through a template once; ``out`` is what it writes."""

    def __init__(
        self,
        special_tokens: Mapping[str, str],
        learned: dict[str, str],
        *,
        tools: bool = True,
        results: bool = True,
        thinking: bool = True,
    ) -> None:
        super().__init__()
        self.learned, self.results = learned, results
        think = Choice(Expr("$.IsThinkSet"), Truth(Expr("$.Think")), NOTHING) if thinking else NOTHING
        self.env = {
            **{name: Static(text) for name, text in special_tokens.items()},
            "messages": Listing("message" if tools else "plain message", GIVEN),
            "tools": Choice(TOOLS, Listing("tool", TOOLS), NONE) if tools else NONE,
            "documents": NONE,
            "add_generation_prompt": Truth(negated(CONTINUED)),
            "enable_thinking": think,
        }
        self.tools, self.thinks = tools, thinking
        self.accumulator = ""
        """The attribute that the prompt is added up in, which is written instead."""
        self.gathering: set[str] = set()
        """Lists of which nothing is wanted but their elements in a row."""
        self.statements = 0
        self.tolerates: list[str] = []
        """Why some tools can't be rendered."""
        self.counted_at: Expr | None = None
        """The place that a loop over numbers is at."""
        self.defined_as: dict[str, str] = {}
        self.definitions: dict[str, Nodes] = {}
        """Macros that call themselves, by name."""

    def template(self, tree: jinja.Template) -> Nodes:
        """The whole of it.

        Raises:
            CannotDerive: it makes use of what no Go template can say, or of what is not known here.
            Learned: what is known now makes it worth another translation.
        """
        self.declare("last", call("index", GIVEN, call("len", call("slice", GIVEN, number(1)))), LAST.text)
        called = negated(field_of(LAST, "ToolCalls"))
        spoken = both(call("eq", field_of(LAST, "Role"), ASSISTANT), field_of(LAST, "Content"), called)
        self.declare("continued", spoken, CONTINUED.text)
        try:
            self.accumulator, self.gathering = accumulator(tree), only_joined(tree)
            self.block(tree.body)
        except Raised as error:
            raise CannotDerive("it refuses every conversation") from error
        except RecursionError as error:
            raise CannotDerive("it is nested too deeply") from error
        nodes = _ended(self.out)
        for name in sorted(read_names(pruned(nodes)) & set(self.poisoned)):
            raise CannotDerive(self.poisoned[name])
        return nodes

    def block(self, statements: list[Any]) -> None:
        for statement in statements:
            self.statement(statement)

    def statement(self, node: Any) -> None:
        self.statements += 1
        if self.statements > MAX_STATEMENTS:
            raise CannotDerive("it takes too many steps")
        match node:
            case jinja.Output():
                for part in node.nodes:
                    if isinstance(part, jinja.TemplateData):
                        self.write(Static(part.data))
                    elif not is_read(part, self.accumulator):
                        self.write(self.value(part))
            case jinja.If():
                self.conditional([(node.test, node.body), *((e.test, e.body) for e in node.elif_)], node.else_)
            case jinja.For():
                self.loop(node, self.value(node.iter))
            case jinja.Assign():
                self.assign(node)
            case jinja.AssignBlock():
                text = self.rope(lambda: self.block(node.body))
                if node.filter is not None:
                    text = self.filtered(node.filter, text)
                self.bind(node.target, text)
            case jinja.Macro():
                self.env[node.name] = Macro(node)
            case jinja.CallBlock():
                self.block(node.body)
            case jinja.FilterBlock():
                self.write(self.filtered(node.filter, self.rope(lambda: self.block(node.body))))
            case jinja.Break():
                self.out.append(Break())
            case jinja.ExprStmt():
                self.value(node.node)
            case _:
                raise CannotDerive(f"{type(node).__name__} on line {node.lineno}")

    # --- output -----------------------------------------------------------------------------------------------------

    def write(self, value: Value) -> None:
        if self.sink:
            return
        match value:
            case Static(value=Undefined()):
                pass
            case Static():
                self.out.append(Text(str(value.value)))
            case Str(expr=expr) if expr.text == "print" and expr.args:
                self.out.extend(self.printed(piece) for piece in expr.args)
            case Str():
                self.out.append(self.printed(value.expr))
            case Int():
                self.out.append(Print(self.sum_of(value)))
            case Truth():
                self.write(Choice(value.cond, Static("True"), Static("False")))
            case Concat():
                for part in value.parts:
                    self.write(part)
            case Rope():
                self.out.extend(value.nodes)
            case Choice():
                self.branch(value.cond, lambda: self.write(value.yes), lambda: self.write(value.no))
            case Json():
                self.out.append(Template("str", value.expr))
            case Record() | Listing():
                self.write(self.string_of(value))
            case Unknown():
                raise CannotDerive(value.why)
            case _:
                raise CannotDerive(f"a {type(value).__name__.lower()} is written")

    def printed(self, expr: Expr) -> Node:
        return Print(expr, self.said(expr))

    def ending(self, expr: Expr, after: list[Expr]) -> list[Expr]:
        speaker = self.speaker(expr)
        if speaker not in self.final or not self.said(expr):
            return after
        name = self.declare("end", call("print", *after) if len(after) > 1 else after[0])
        self.out.append(If(both(CONTINUED, self.final[speaker]), [self.put(name, EMPTY)]))
        return [Expr(name)]

    def said(self, expr: Expr) -> bool:
        """Whether it may be what an assistant said, after which a prompt that goes on with it ends."""
        speaker = self.speaker(expr)
        return bool(speaker) and self.may_answer(speaker)

    def nodes_of(self, value: Value) -> Nodes:
        return self.nodes_by(lambda: self.write(value))

    def nodes_by(self, run: Callable[[], None]) -> Nodes:
        """What statements write."""
        outside, self.out = self.out, []
        sink, self.sink = self.sink, ""
        try:
            run()
            return self.out
        finally:
            self.out, self.sink = outside, sink

    def rope(self, run: Callable[[], None]) -> Value:
        """The text that statements write."""
        inside = self.nodes_by(run)
        declared = [node for node in inside if isinstance(node, Declare)]
        if declared and all(isinstance(node, Text | Print | Declare | Strip) for node in inside):
            self.out.extend(node for node in inside if isinstance(node, Declare | Strip))
            inside = [node for node in inside if not isinstance(node, Declare | Strip)]
        if all(isinstance(node, Text | Print) for node in inside):
            parts = tuple(
                Static(node.text) if isinstance(node, Text) else Str(node.expr)
                for node in inside
                if isinstance(node, Text | Print)
            )
            return self.concat(parts)
        return Rope(inside)

    # --- branches ---------------------------------------------------------------------------------------------------

    def conditional(self, arms: list[tuple[Any, list[Any]]], other: list[Any]) -> None:
        if not arms:
            self.block(other)
            return
        (test, body), *rest = arms
        cond = self.condition(test)
        if isinstance(cond, Unknown):
            self.unknown_branch(cond, lambda: self.block(body), lambda: self.conditional(rest, other))
        else:
            self.branch(cond, lambda: self.block(body), lambda: self.conditional(rest, other))

    def unknown_branch(self, cond: Unknown, yes: Callable[[], None], no: Callable[[], None]) -> None:
        """Where a condition can't be said: fine if one side refuses."""
        for one, other in ((yes, no), (no, yes)):
            try:
                with self.inside(TRUE):
                    one()
            except Raised:
                other()
                return
        raise CannotDerive(cond.why)

    def tolerated(self, run: Callable[[], None]) -> None:
        """What Go can't say of a rare tool is an error when such a tool is rendered, not before."""
        before = len(self.out)
        env = dict(self.env)
        try:
            run()
        except CannotDerive as error:
            if not self.of_tools or self.statements > MAX_STATEMENTS:
                raise
            self.env = env
            self.tolerates.append(error.why)
            self.out[before:] = [Print(call("slice", string(error.why), number(999)))]

    def branch(self, cond: Expr, yes: Callable[[], None], no: Callable[[], None]) -> None:
        cond = self.simplified(cond)
        if cond in (TRUE, FALSE):
            (yes if cond == TRUE else no)()
            return
        results: list[tuple[Nodes, dict[str, Value]] | None] = []
        for when, run in ((cond, yes), (negated(cond), no)):
            try:
                with self.inside(when) as (out, env):
                    self.tolerated(run)
                    env.update(self.env)
                results.append((out, env))
            except Raised:
                results.append(None)
        held, failed = results
        if held and failed:
            self.join(cond, *held, *failed)
            return
        only = held or failed
        if only is None:
            raise Raised
        out, self.env = only
        self.out.extend(out)
        self.assume(cond if held else negated(cond))

    @contextmanager
    def inside(self, cond: Expr) -> Iterator[tuple[Nodes, dict[str, Value]]]:
        """A branch: with its own output and variables, and a condition known to hold."""
        kept = self.env, self.out, self.known, self.cache
        out: Nodes = []
        self.env, self.out, self.known, self.cache = dict(self.env), out, list(self.known), dict(self.cache)
        self.assume(cond)
        env: dict[str, Value] = {}
        try:
            yield out, env
        finally:
            self.env, self.out, self.known, self.cache = kept
            changed = {node.name for node in walk(out) if isinstance(node, Set)}
            self.known = [cond for cond in self.known if not cond.names() & changed]

    def join(self, cond: Expr, out: Nodes, env: dict[str, Value], out_no: Nodes, env_no: dict[str, Value]) -> None:
        before = self.env
        merged: dict[str, Value] = {}
        for key in [*env, *(key for key in env_no if key not in env)]:
            yes, no = env.get(key, NOTHING), env_no.get(key, NOTHING)
            if yes is no or yes == no:
                merged[key] = yes
            else:
                merged[key] = self.merged(key, cond, (yes, out), (no, out_no), before.get(key))
        self.env = merged
        self.out.append(If(cond, out, out_no))

    def merged(
        self, key: str, cond: Expr, yes: tuple[Value, Nodes], no: tuple[Value, Nodes], before: Value | None
    ) -> Value:
        """What a variable is after a branch: a variable of Go's where both have a value of one kind."""
        kinds = [self.kind(value) for value, _ in (yes, no)]
        unchanged = [before is not None and (value is before or value == before) for value, _ in (yes, no)]
        exprs = [
            self.expr_in(value, self.out if same else out)
            for (value, out), same in zip((yes, no), unchanged, strict=True)
        ]
        conds = [condition_of(value) for value, _ in (yes, no)]
        if all(c in (TRUE, FALSE) for c in conds):
            cond = self.stable(cond)
            return Truth(cond if conds[0] == TRUE else negated(cond))
        if kinds[0] and kinds[0] == kinds[1] and exprs[0] is not None and exprs[1] is not None:
            at = (
                1
                if unchanged[1] or isinstance(no[0], Static)
                else 0
                if unchanged[0] or isinstance(yes[0], Static)
                else 1
            )
            free = unchanged[at] or isinstance((yes, no)[at][0], Static)
            start = exprs[at] if free else self.zero(kinds[0])
            assert start
            name = self.declare(key, start)
            for place, (_, out) in enumerate((yes, no)):
                if not (free and place == at):
                    expr = exprs[place]
                    assert expr
                    out.append(self.put(name, expr))
            return self.of_kind(kinds[0], Expr(name))
        for at, ((_, out), (other, _)) in enumerate(((yes, no), (no, yes))):
            if kinds[at] and exprs[at] is not None and isinstance(other, Static) and other.value in (None, UNDEFINED):
                name = self.declare(key, self.zero(kinds[at]))
                expr = exprs[at]
                assert expr
                out.append(self.put(name, expr))
                made = self.of_kind(kinds[at], Expr(name))
                return choice(self.stable(cond), *((made, other) if at == 0 else (other, made)))
        return choice(self.stable(cond), *(self.kept(key, value, out) for value, out in (yes, no)))

    def kept(self, key: str, value: Value, out: Nodes) -> Value:
        """A value that is still known after the branch in which it was made."""
        made = self.names_of(value) & {node.name for node in walk(out) if isinstance(node, Declare)}
        if not made:
            return value
        if isinstance(value, Choice):
            cond = condition_of(self.kept(key, Truth(value.cond), out))
            assert cond
            return choice(cond, self.kept(key, value.yes, out), self.kept(key, value.no, out))
        kind, expr = self.kind(value), self.expr_in(value, out)
        if not kind:
            return Unknown(f"{key} is made of what is known in one branch only")
        if expr is None:  # a text that other templates write parts of: what it is made of is known from here on
            self.out += [Declare(name, EMPTY) for name in sorted(made)]
            out[:] = rewritten(
                out,
                lambda node: [Set(node.name, node.expr)] if isinstance(node, Declare) and node.name in made else [node],
            )
            return value
        name = self.declare(key, self.zero(kind))
        out.append(self.put(name, expr))
        return self.of_kind(kind, Expr(name))

    def expr_in(self, value: Value, out: Nodes) -> Expr | None:
        """The expression that a value is at the end of a branch."""
        if self.kind(value) == "text" and not woven(value):
            kept, self.out = self.out, out
            try:
                return self.text(value)
            finally:
                self.out = kept
        return self.pure(value)

    def stable(self, cond: Expr) -> Expr:
        """A condition that later assignments do not change."""
        if not cond.names() & self.mutable_names:
            return cond
        return Expr(self.declare("was", cond))

    # --- loops ------------------------------------------------------------------------------------------------------

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
        if ends and any(_said(child) for child in out):
            out = _cut(out, negated(both(CONTINUED, ends[0])))
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
        if over.kind in MESSAGES and not over.backwards and any(_said(child) for child in out):
            out = _cut(out, negated(both(CONTINUED, self.ends_at(over.expr, at))))
        if over.mapping and any(counter.text in _names(child) for child in walk(out)):
            self.out.append(Declare(counter.text, number(0)))
            out.append(Set(counter.text, call("len", call("printf", string("%*sx"), counter, EMPTY))))
        return Range(index, "$_" if over.backwards else item, over.expr, out)

    def ends_at(self, over: Expr, at: Expr) -> Expr:
        """Whether an element of a part of a list is the last of the whole."""
        if over.text == "slice" and len(over.args) == 3:
            whole, begin, _ = over.args
            over = whole if begin == number(0) else call("slice", whole, begin)
        return call("eq", call("len", call("slice", over, at)), number(1))

    def prepare(self, node: jinja.For) -> set[str]:
        """Make variables of what the loop assigns; the texts that it only adds to are returned."""
        grown: set[str] = set()
        changed: dict[str, list[jinja.Assign]] = {}
        for statement in self.assignments(node, set()):
            target = statement.target
            if isinstance(target, jinja.NSRef) and isinstance(self.env.get(target.name), Namespace):
                key = f"{self.env[target.name].name}.{target.attr}"  # type: ignore[attr-defined]
                changed.setdefault(key, []).append(statement)
        only_added = {key for key, found in changed.items() if all(appended(s.node, key) is not None for s in found)}
        for key, statements in changed.items():
            if key in self.mutable or key in self.ignored or key in (self.sink, self.accumulator):
                continue
            reads = sum(
                isinstance(found.node, jinja.Name) and f"{found.node.name}.{found.attr}" == key
                for found in node.find_all(jinja.Getattr)
            )
            value = self.env.get(key, NOTHING)
            adds = self.kind(value) == "text" and reads == len(statements)
            adds |= key in self.gathering and (value == ListOf(()) or isinstance(value, Gathered))
            if adds and len(only_added) == len(changed):
                grown.add(key)
            else:
                self.make_mutable(key)
        return grown

    def assignments(self, node: jinja.Node, macros: set[str]) -> Iterator[jinja.Assign]:
        """Those in a statement, and in the macros that it calls."""
        yield from node.find_all(jinja.Assign)
        for function in node.find_all(jinja.Call):
            name = function.node.name if isinstance(function.node, jinja.Name) else ""
            macro = self.env.get(name)
            if isinstance(macro, Macro) and name not in macros:
                yield from self.assignments(macro.node, macros | {name})

    def make_mutable(self, key: str) -> None:
        value = self.env.get(key, NOTHING)
        if isinstance(value, Choice) and self.pure(value) is None:
            value = Unknown(f"{key} has values of several kinds")
        kind, expr = self.kind(value), self.pure(value)
        if value in (NONE, NOTHING):
            if key not in self.learned:
                self.mutable[key] = ("", "none")
                return
            kind, expr = self.learned[key], EMPTY
        if not kind or expr is None:
            self.env[key] = Unknown(f"{key} changes in a loop, and is neither text nor number")
            self.mutable[key] = ("", "")
            return
        word = key.replace(".", "_").removeprefix("ns_")
        if isinstance(value, Static) and kind == "int" and value.value < 0:  # of which no lengths could be made
            kind, word, expr = f"int:{-value.value}", f"{word}_plus_{-value.value}", number(0)
        name = self.declare(word, expr)
        self.mutable[key] = (name, kind)
        self.mutable_names.add(name)
        self.env[key] = self.of_kind(kind, Expr(name))

    # --- assignments ------------------------------------------------------------------------------------------------

    def assign(self, node: jinja.Assign) -> None:
        target = node.target
        if isinstance(target, jinja.NSRef):
            space = self.env.get(target.name)
            if not isinstance(space, Namespace):
                raise CannotDerive(f"{target.name} is no namespace")
            key = f"{space.name}.{target.attr}"
            added = appended(node.node, key)
            if key == self.sink:
                assert added is not None
                sink, self.sink = self.sink, ""
                for part in added:
                    for one in part.items if key in self.gathering else [part]:
                        self.out += [Begin()] if key in self.gathering else []
                        self.write(self.value(one))
                self.sink = sink
            elif key == self.accumulator and added:
                for part in added:
                    value = self.value(part)
                    self.env[key] = Told(value)
                    self.write(value)
            elif key in self.ignored:
                pass
            elif key in self.mutable:
                self.change(key, self.value(node.node))
            else:
                self.env[key] = self.value(node.node)
            return
        if isinstance(target, jinja.Name) and makes_namespace(node.node):
            for key in [key for key in self.env if key.startswith(f"{target.name}.")]:
                del self.env[key]
                self.mutable.pop(key, None)
            for argument in node.node.kwargs:
                self.env[f"{target.name}.{argument.key}"] = self.value(argument.value)
            self.env[target.name] = Namespace(target.name)
            return
        value = self.value(node.node)
        if isinstance(target, jinja.Name) and isinstance(value, Choice) and self.kind(value)[:4] in ("text", "list"):
            value = self.variable(target.name, value)
        self.bind(target, value)

    def variable(self, name: str, value: Choice) -> Value:
        """A variable of Go's for a text that is one or another."""
        kept = self.env
        self.env = dict(kept)
        self.branch(
            value.cond,
            lambda: self.env.__setitem__(name, value.yes),
            lambda: self.env.__setitem__(name, value.no),
        )
        made, self.env = self.env[name], kept
        return made

    def change(self, key: str, value: Value) -> None:
        name, kind = self.mutable[key]
        if kind == "none" and value not in (NONE, NOTHING):
            of = self.kind(self.given(value))
            self.learned[key] = f"maybe:{of}" if of.startswith(("list", "map")) else "maybe"
            raise Learned
        if not name:
            return
        kind, _, more = kind.partition(":")
        expr = self.pure(value)
        if more and kind == "maybe":
            value, kind = self.given(value), more.partition(":")[0]
            expr = self.pure(value)
        elif more and kind == "int" == self.kind(value):
            expr = self.pure(self.total(self.integer(value), Int((), int(more)), 1))
        if isinstance(value, Static) and not value.value and (kind == "maybe" or value in (NONE, NOTHING)):
            expr = EMPTY
        fits = self.kind(value).partition(":")[0] == kind or (
            kind == "maybe" and self.kind(value) in ("text", "maybe", "record")
        )
        if isinstance(value, Choice) and self.kind(value) and expr is None:
            self.branch(value.cond, lambda: self.change(key, value.yes), lambda: self.change(key, value.no))
            return
        if (expr is None or not fits) and not (expr is not None and expr == EMPTY):
            self.poison(name, value.why if isinstance(value, Unknown) else f"{key} has values of several kinds")
            return
        assert expr
        self.out.append(self.put(name, expr))

    def given(self, value: Value) -> Value:
        """What a value is where it is not none."""
        maybe = isinstance(value, Choice) and value.no in (NONE, NOTHING) and self.pure(value.yes) == value.cond
        return value.yes if isinstance(value, Choice) and maybe else value

    def bind(self, target: Any, value: Value) -> None:
        if isinstance(target, jinja.Name):
            if isinstance(value, Record) and value.kind in MESSAGES and value.expr.args[1:] == (self.counted_at,):
                value = self.spoken_to(target.name, value)
            self.env[target.name] = self.snapshot(target.name, value)
        elif isinstance(target, jinja.Tuple) and isinstance(value, ListOf) and len(value.items) == len(target.items):
            for part, item in zip(target.items, value.items, strict=True):
                self.bind(part, item)
        else:
            raise CannotDerive(f"an assignment on line {target.lineno}")

    def spoken_to(self, name: str, message: Record) -> Record:
        """A message in a variable, where a loop counts the places of messages."""
        found = Expr(self.declare(name, message.expr))
        self.speakers = [*self.speakers, found.text]
        self.final[found.text] = self.ends_at(*message.expr.args)
        return Record(message.kind, found)

    def snapshot(self, name: str, value: Value) -> Value:
        """A value as it is now, if it is made of what changes."""
        if not self.names_of(value) & self.mutable_names:
            return value
        expr = self.pure(value)
        if expr is not None and self.kind(value):
            return self.of_kind(self.kind(value), Expr(self.declare(name, expr)))
        if isinstance(value, Concat):
            return Concat(tuple(self.snapshot(name, part) for part in value.parts))
        if isinstance(value, Choice):
            return choice(self.stable(value.cond), self.snapshot(name, value.yes), self.snapshot(name, value.no))
        return value

    def called(self, macro: Macro, args: list[Value], named: dict[str, Value]) -> Value:
        node = macro.node
        names = [argument.name for argument in node.args]
        given = dict(zip(names, args, strict=False)) | named
        defaults = dict(zip(names[len(names) - len(node.defaults) :], node.defaults, strict=True))
        values = {
            name: given.get(name) or (self.value(defaults[name]) if name in defaults else NOTHING) for name in names
        }
        if macro.depth[0]:
            return self.defined_once(macro, values)
        kept = self.env
        self.env = kept | values
        macro.depth[0] += 1
        try:
            return self.rope(lambda: self.block(node.body))
        finally:
            macro.depth[0] -= 1
            self.env = {**kept, **{key: value for key, value in self.env.items() if "." in key and key in kept}}

    def defined_once(self, macro: Macro, values: dict[str, Value]) -> Value:
        """A macro that calls itself, as a template that does: of one argument, as that is all that Go hands on."""
        values = {name: value if _reads(macro.node, name) else NOTHING for name, value in values.items()}
        changing = {name: value for name, value in values.items() if not isinstance(value, Static)}
        if len(changing) != 1:
            return Unknown(f"macro {macro.node.name} calls itself with more than one argument")
        ((argument, value),) = changing.items()
        kind, expr = self.kind(value), self.pure(value)
        if not kind or expr is None:
            return Unknown(f"macro {macro.node.name} calls itself")
        key = repr((macro.node.name, kind, values.keys(), [v for v in values.values() if isinstance(v, Static)]))
        if key not in self.defined_as:
            if len(self.defined_as) >= MAX_DEFINED:
                return Unknown(f"macro {macro.node.name} calls itself with ever other arguments")
            self.defined_as[key] = name = f"{macro.node.name} {len(self.defined_as) + 1}"
            outside = self.env, self.out, self.known, self.cache, self.speakers, self.mutable, self.mutable_names
            self.env = {name: one for name, one in self.env.items() if isinstance(one, Static | Macro)}
            self.env |= values | {argument: self.of_kind(kind, Expr("$"))}
            self.out, self.known, self.cache, self.speakers = [], [], {}, []
            self.mutable, self.mutable_names = {}, set()
            try:
                self.block(macro.node.body)
                self.definitions[name] = self.out
            finally:
                self.env, self.out, self.known, self.cache, self.speakers, self.mutable, self.mutable_names = outside
        return Rope([Template(self.defined_as[key], expr)])


def _gathered(value: Value) -> Nodes:
    return value.nodes if isinstance(value, Gathered) else []


def _reads(macro: jinja.Macro, name: str) -> bool:
    """Whether a macro makes use of an argument, but to hand it on to itself."""
    own = [call for call in macro.find_all(jinja.Call) if getattr(call.node, "name", None) == macro.name]
    handed = sum(getattr(argument, "name", None) == name for call in own for argument in call.args)
    read = sum(found.name == name and found.ctx == "load" for part in macro.body for found in _names_in(part))
    return bool(read > handed)


def _names_in(node: jinja.Node) -> Iterator[jinja.Name]:
    if isinstance(node, jinja.Name):
        yield node
    yield from node.find_all(jinja.Name)


def _names(node: Node) -> set[str]:
    match node:
        case Print() | Template() | Declare() | Set():
            return node.expr.names()
        case If():
            return node.cond.names()
        case Range():
            return node.over.names()
    return set()


def _visible(nodes: Nodes) -> bool:
    return any(isinstance(node, Text | Print | Template) for node in walk(nodes))


def _said(node: Node) -> bool:
    return any(isinstance(child, Print) and child.said for child in walk([node]))


def _cut(nodes: Nodes, guard: Expr) -> Nodes:
    """With what comes after the answer left out where the prompt goes on with it."""
    at = max((at for at, node in enumerate(nodes) if _said(node)), default=-1)
    if at < 0:
        return nodes
    node, rest = nodes[at], nodes[at + 1 :]
    if isinstance(node, If):
        node = If(node.cond, _cut(node.body, guard), _cut(node.other, guard))
    return [*nodes[:at], node, *([If(guard, rest)] if _visible(rest) else rest)]


def _ended(nodes: Nodes) -> Nodes:
    """With nothing after the messages where the prompt goes on with the last one."""
    at = max((at for at, node in enumerate(nodes) if _said(node)), default=len(nodes))
    rest = _given(nodes[at + 1 :], negated(CONTINUED))
    said = nodes[at : at + 1]
    if said and not isinstance(said[0], Range):
        said = _cut(said, negated(CONTINUED))
    return [*nodes[:at], *said, *([If(negated(CONTINUED), rest)] if _visible(rest) else [])]


def _given(nodes: Nodes, cond: Expr) -> Nodes:
    """Where a condition is known to hold."""
    kept: Nodes = []
    for node in nodes:
        if isinstance(node, If) and node.cond == cond:
            kept += _given(node.body, cond)
        elif isinstance(node, If) and node.cond == negated(cond):
            kept += _given(node.other, cond)
        else:
            kept.append(node)
    return kept
