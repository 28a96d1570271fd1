"""What a chat template assigns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jinja2 import nodes as jinja

from ollamaq.chat.derive.adding_up import appended, is_read, made_within, makes_namespace
from ollamaq.chat.derive.branches import Branches
from ollamaq.chat.derive.go import (
    EMPTY,
    Begin,
    Expr,
    number,
)
from ollamaq.chat.derive.shapes import MESSAGES
from ollamaq.chat.derive.state import CannotDerive, Learned
from ollamaq.chat.derive.values import (
    NONE,
    NOTHING,
    Choice,
    Concat,
    Gathered,
    Int,
    ListOf,
    Macro,
    Namespace,
    Record,
    Static,
    Told,
    Unknown,
    Value,
    choice,
    leaves,
)


class Assignments(Branches):
    """Values of names, and variables of Go's for attributes that change in loops."""

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

    def text_or_none(self, key: str, value: Choice) -> Value:
        """A variable of Go's for one of several texts, or none, which is empty there."""
        if not all(one in (NONE, NOTHING) or self.kind(one) == "text" for one in leaves(value)):
            return Unknown(f"{key} has values of several kinds")
        name = self.declare(key, EMPTY)

        def put(one: Value) -> None:
            if isinstance(one, Choice):
                self.branch(one.cond, lambda: put(one.yes), lambda: put(one.no))
            elif one not in (NONE, NOTHING):
                self.out.append(self.put(name, self.text(one)))

        put(value)
        return self.of_kind("maybe", Expr(name))

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

    # --- in loops ---------------------------------------------------------------------------------------------------

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
            reads = sum(is_read(found, key) for found in node.find_all(jinja.Getattr))
            value = self.env.get(key, NOTHING)
            adds = self.kind(value) == "text" and reads == len(statements)
            adds |= key in self.gathering and (value == ListOf(()) or isinstance(value, Gathered))
            if adds and len(only_added) == len(changed):
                grown.add(key)
            else:
                self.make_mutable(key)
        return grown

    def assignments(self, node: jinja.Node, macros: set[str]) -> Iterator[jinja.Assign]:
        """Those in a statement, and in the macros that it calls, but for what is these macros' own."""
        own = made_within(node) if isinstance(node, jinja.Macro) else set()
        yield from (one for one in node.find_all(jinja.Assign) if getattr(one.target, "name", "") not in own)
        for function in node.find_all(jinja.Call):
            name = function.node.name if isinstance(function.node, jinja.Name) else ""
            macro = self.env.get(name)
            if isinstance(macro, Macro) and name not in macros:
                yield from self.assignments(macro.node, macros | {name})

    def make_mutable(self, key: str) -> None:
        value = self.env.get(key, NOTHING)
        if isinstance(value, Choice) and self.pure(value) is None:
            value = self.text_or_none(key, value)
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
