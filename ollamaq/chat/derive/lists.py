"""Lists of texts, which Go's templates can't build: one text with a separator after each of them."""

from __future__ import annotations

from collections.abc import Callable

from ollamaq.chat.derive.go import (
    EMPTY,
    FALSE,
    TRUE,
    Break,
    Declare,
    Expr,
    If,
    Nodes,
    Range,
    Set,
    both,
    call,
    number,
    string,
)
from ollamaq.chat.derive.strings import Strings
from ollamaq.chat.derive.values import Pieces, Split, Str, Unknown, Value


class Lists(Strings):
    """Loops over the pieces of a text."""

    def pieces_of(self, of: Split) -> Pieces:
        return Pieces(call("print", of.expr, string(of.separator)), of.separator)

    def each_piece(self, of: Pieces, name: str, make: Callable[[Expr, Expr, Expr], Nodes]) -> Nodes:
        """A loop over the pieces; ``make`` is given each, where it begins and the place of the separator."""
        subject = self.variable_of(of.expr, "text")
        done, begin = self.declare("done", number(0)), self.fresh("begin")
        at, item = self.fresh("at"), self.fresh(name)
        past = call("len", call("printf", string("%*s" + "x" * len(of.separator.encode())), Expr(at), EMPTY))
        taken: Nodes = [
            Declare(begin, Expr(done)),
            Declare(item, call("slice", subject, Expr(begin), Expr(at))),
            Set(done, past),
            *make(Expr(item), Expr(begin), Expr(at)),
        ]
        here = both(call("ge", Expr(at), Expr(done)), self.begins(call("slice", subject, Expr(at)), of.separator))
        return [Set(done, number(0)), Range(at, "", call("len", subject), [If(here, taken)])]

    def listed(self, item: Value, of: Pieces) -> Expr:
        """Whether a text is one of the pieces."""
        text = self.text(item)
        name = self.declare("listed", FALSE)
        self.out += self.each_piece(
            of, "piece", lambda piece, *_: [If(call("eq", piece, text), [self.put(name, TRUE)])]
        )
        return Expr(name)

    def piece_at(self, of: Pieces, at: int) -> Value:
        """The first or the last piece."""
        if at not in (0, -1):
            return Unknown(f"item {at} of a list of texts")
        name = self.declare("piece", EMPTY)
        self.out += self.each_piece(
            of, "one", lambda piece, *_: [self.put(name, piece), *([Break()] if at == 0 else [])]
        )
        return Str(Expr(name))
