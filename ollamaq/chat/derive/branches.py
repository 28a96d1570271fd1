"""Conditional statements, and what variables are after them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ollamaq.chat.derive.go import (
    EMPTY,
    FALSE,
    TRUE,
    Declare,
    Expr,
    If,
    Nodes,
    Print,
    Set,
    call,
    negated,
    number,
    rewritten,
    string,
    walk,
)
from ollamaq.chat.derive.output import Output
from ollamaq.chat.derive.state import MAX_STATEMENTS, CannotDerive
from ollamaq.chat.derive.strings import woven
from ollamaq.chat.derive.values import (
    NOTHING,
    UNDEFINED,
    Choice,
    Raised,
    Static,
    Truth,
    Unknown,
    Value,
    choice,
    condition_of,
)


class Branches(Output):
    """``if``, whose sides are gone through one after the other."""

    def block(self, statements: list[Any]) -> None:
        raise NotImplementedError

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
