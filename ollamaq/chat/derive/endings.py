"""Where a prompt goes on with the last answer: nothing comes after that."""

from __future__ import annotations

from ollamaq.chat.derive.go import (
    Expr,
    If,
    Node,
    Nodes,
    Print,
    Range,
    Template,
    Text,
    negated,
    walk,
)
from ollamaq.chat.derive.state import CONTINUED


def visible(nodes: Nodes) -> bool:
    return any(isinstance(node, Text | Print | Template) for node in walk(nodes))


def has_said(node: Node) -> bool:
    return any(isinstance(child, Print) and child.said for child in walk([node]))


def cut(nodes: Nodes, guard: Expr) -> Nodes:
    """With what comes after the answer left out where the prompt goes on with it."""
    at = max((at for at, node in enumerate(nodes) if has_said(node)), default=-1)
    if at < 0:
        return nodes
    node, rest = nodes[at], nodes[at + 1 :]
    if isinstance(node, If):
        node = If(node.cond, cut(node.body, guard), cut(node.other, guard))
    return [*nodes[:at], node, *([If(guard, rest)] if visible(rest) else rest)]


def ended(nodes: Nodes) -> Nodes:
    """With nothing after the messages where the prompt goes on with the last one."""
    at = max((at for at, node in enumerate(nodes) if has_said(node)), default=len(nodes))
    rest = given(nodes[at + 1 :], negated(CONTINUED))
    said = nodes[at : at + 1]
    if said and not isinstance(said[0], Range):
        said = cut(said, negated(CONTINUED))
    return [*nodes[:at], *said, *([If(negated(CONTINUED), rest)] if visible(rest) else [])]


def given(nodes: Nodes, cond: Expr) -> Nodes:
    """Where a condition is known to hold."""
    kept: Nodes = []
    for node in nodes:
        if isinstance(node, If) and node.cond == cond:
            kept += given(node.body, cond)
        elif isinstance(node, If) and node.cond == negated(cond):
            kept += given(node.other, cond)
        else:
            kept.append(node)
    return kept
