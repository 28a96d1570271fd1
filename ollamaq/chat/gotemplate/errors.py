"""The one error of the engine."""

from __future__ import annotations

from ollamaq.errors import ModelRefused

MAX_SHOWN = 300
"""Characters of Go's words; they may hold what the template made."""


class TemplateError(ModelRefused):
    """A Go template that cannot be parsed or rendered.

    ``said`` are Go's words, without ``template: :1:2:`` before them; ``line`` and ``column``, from 1 and in characters,
    tell where (a parse error's place is the last token that was read); ``go`` is Go's whole message.
    """

    def __init__(self, said: str, line: int, column: int, go: str) -> None:
        shown = said if len(said) <= MAX_SHOWN else said[:MAX_SHOWN] + "…"
        shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)
        super().__init__(
            f"the Go template fails at line {line}, column {column}: {shown}", next_step="mend the TEMPLATE"
        )
        self.said, self.line, self.column, self.go = said, line, column, go
