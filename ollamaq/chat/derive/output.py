"""What expressions write."""

from __future__ import annotations

from collections.abc import Callable

from ollamaq.chat.derive.expressions import Expressions
from ollamaq.chat.derive.go import (
    EMPTY,
    Declare,
    Expr,
    If,
    Node,
    Nodes,
    Print,
    Strip,
    Template,
    Text,
    both,
    call,
)
from ollamaq.chat.derive.state import CONTINUED, CannotDerive
from ollamaq.chat.derive.values import (
    Choice,
    Concat,
    Int,
    Json,
    Listing,
    Record,
    Rope,
    Static,
    Str,
    Truth,
    Undefined,
    Unknown,
    Uppered,
    Value,
)


class Output(Expressions):
    """Values as nodes."""

    def branch(self, cond: Expr, yes: Callable[[], None], no: Callable[[], None]) -> None:
        raise NotImplementedError

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
            case Uppered(of=Rope(nodes=[Template(name="str", expr=expr)])):
                self.out.append(Template("upper", expr))
            case Uppered():
                self.out.append(Template("upper", self.text(value.of)))
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
