"""The token that prompts begin with, left out where a prompt begins: Ollama adds it itself."""

from __future__ import annotations

from ollamaq.chat.derive.go import (
    EMPTY,
    Declare,
    Expr,
    Node,
    Nodes,
    Print,
    Set,
    Template,
    Text,
    rewritten,
    string,
    walk,
)

BEGUN = Expr("$bos")
"""Nothing at first, then the token."""


def without_leading(nodes: Nodes, bos: str) -> Nodes:
    """With a text at the beginning that has no ``bos``; else, with a variable for each of them."""
    if not bos or not any(bos in text for node in walk(nodes) for text in _texts(node)):
        return nodes
    for at, node in enumerate(nodes):
        if isinstance(node, Text) and node.text.startswith(bos):
            return [*nodes[:at], Text(node.text.removeprefix(bos)), *nodes[at + 1 :]]
        if _visible(node):
            break
    then = Set(BEGUN.text, string(bos))

    def one(node: Node) -> Nodes:
        match node:
            case Text(text=text) if text.startswith(bos):
                return [Print(BEGUN), then, Text(text.removeprefix(bos))]
            case Declare(name=name, expr=expr) if (changed := _begun(expr, bos)) != expr:
                return [Declare(name, changed), then]
            case Set(name=name, expr=expr) if (changed := _begun(expr, bos)) != expr:
                return [Set(name, changed), then]
        return [node]

    return [Declare(BEGUN.text, EMPTY), *rewritten(nodes, one)]


def _texts(node: Node) -> list[str]:
    match node:
        case Text():
            return [node.text]
        case Declare() | Set():
            return [arg.text for arg in node.expr.args]
    return []


def _visible(node: Node) -> bool:
    return any(isinstance(child, Text | Print | Template) for child in walk([node]))


def _begun(expr: Expr, bos: str) -> Expr:
    """A text that begins with the token, with the variable in its place."""
    quoted = string(bos).text[1:-1]
    if expr.text == "print" and expr.args and expr.args[0].text.startswith(f'"{quoted}'):
        rest = Expr(f'"{expr.args[0].text[1 + len(quoted) :]}')
        return Expr("print", (BEGUN, *([] if rest == EMPTY else [rest]), *expr.args[1:]))
    return expr
