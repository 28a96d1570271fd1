"""The statements of a chat template, as nodes of a Go template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import nodes as jinja

from ollamaq.chat.derive.adding_up import accumulator, is_read, only_joined
from ollamaq.chat.derive.endings import ended
from ollamaq.chat.derive.go import (
    Break,
    Expr,
    Nodes,
    both,
    call,
    field_of,
    negated,
    number,
    pruned,
    read_names,
)
from ollamaq.chat.derive.macros import Macros
from ollamaq.chat.derive.shapes import GIVEN, LAST
from ollamaq.chat.derive.state import ASSISTANT, CONTINUED, MAX_STATEMENTS, CannotDerive
from ollamaq.chat.derive.values import (
    NONE,
    NOTHING,
    Choice,
    Listing,
    Macro,
    Raised,
    Static,
    Truth,
)

TOOLS = Expr("$.Tools")


class Translator(Macros):
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
        nodes = ended(self.out)
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
