"""What a chat template adds up in attributes, to write it in the end: in Go it is written as it goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeGuard, TypeVar

from jinja2 import nodes as jinja

Kind = TypeVar("Kind", bound=jinja.Node)


def accumulator(tree: jinja.Template) -> str:
    """The attribute (``ns.out``) that the prompt is added up in, if nothing else is written and all else it is for is
    how it ends; empty if there is none.
    """
    written = [part for node in _outside_macros(tree, jinja.Output) for part in node.nodes if not _blank(part)]
    if len(written) != 1 or not isinstance(written[0], jinja.Getattr) or not isinstance(written[0].node, jinja.Name):
        return ""
    key = f"{written[0].node.name}.{written[0].attr}"
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, jinja.Output) or written[0] not in last.nodes:
        return ""
    assigned = [node for node in _outside_macros(tree, jinja.Assign) if _assigns(node, key)]
    begun = [node.node for node in _outside_macros(tree, jinja.Assign) if _begins(node, key)]
    ends = [
        node for node in _outside_macros(tree, jinja.Getattr) if node.attr == "endswith" and is_read(node.node, key)
    ]
    reads = [node for node in _outside_macros(tree, jinja.Getattr) if is_read(node, key)]
    only_added = all(appended(node.node, key) is not None for node in assigned)
    return key if only_added and len(begun) == 1 and len(reads) == len(assigned) + len(ends) + 1 else ""


def only_joined(tree: jinja.Template) -> set[str]:
    """Attributes that are lists to which elements are added, and that are read but to be joined."""
    added, others, reads = Counter[str](), set[str](), Counter[str]()
    for node in tree.find_all(jinja.Assign):
        if isinstance(node.target, jinja.NSRef):
            key = f"{node.target.name}.{node.target.attr}"
            added[key] += 1
            more = node.node.right if isinstance(node.node, jinja.Add) and is_read(node.node.left, key) else None
            if not isinstance(more, jinja.List):
                others.add(key)
    for got in tree.find_all(jinja.Getattr):
        if isinstance(got.node, jinja.Name):
            reads[f"{got.node.name}.{got.attr}"] += 1
    for join in tree.find_all(jinja.Filter):
        if join.name == "join" and isinstance(join.node, jinja.Getattr) and isinstance(join.node.node, jinja.Name):
            reads[f"{join.node.node.name}.{join.node.attr}"] -= 1
    return {key for key, times in added.items() if key not in others and reads[key] == times}


def appended(node: Any, key: str) -> list[Any] | None:
    """What is added to a text, where that is all that an assignment does."""
    if isinstance(node, jinja.Concat):
        first, *rest = node.nodes
        return rest if is_read(first, key) else None
    if isinstance(node, jinja.Add):
        if is_read(node.left, key):
            return [node.right]
        before = appended(node.left, key)
        return None if before is None else [*before, node.right]
    return None


def makes_namespace(node: Any) -> TypeGuard[jinja.Call]:
    return isinstance(node, jinja.Call) and isinstance(node.node, jinja.Name) and node.node.name == "namespace"


def made_within(node: jinja.Node) -> set[str]:
    """The namespaces that a macro makes for itself, whatever there is of that name outside of it."""
    made = (assign.target for assign in node.find_all(jinja.Assign) if makes_namespace(assign.node))
    return {target.name for target in made if isinstance(target, jinja.Name)}


def is_read(node: Any, key: str) -> bool:
    return (
        isinstance(node, jinja.Getattr) and isinstance(node.node, jinja.Name) and f"{node.node.name}.{node.attr}" == key
    )


def _assigns(node: jinja.Assign, key: str) -> bool:
    return isinstance(node.target, jinja.NSRef) and f"{node.target.name}.{node.target.attr}" == key


def _begins(node: jinja.Assign, key: str) -> bool:
    """Whether it makes the namespace, with an empty text."""
    name, _, attr = key.partition(".")
    made = node.node
    return (
        isinstance(node.target, jinja.Name)
        and node.target.name == name
        and makes_namespace(made)
        and any(entry.key == attr and entry.value == jinja.Const("") for entry in made.kwargs)
    )


def _blank(part: jinja.Node) -> bool:
    return isinstance(part, jinja.TemplateData) and not part.data


def _outside_macros(node: jinja.Node, kind: type[Kind]) -> Iterator[Kind]:
    for child in node.iter_child_nodes():
        if isinstance(child, kind):
            yield child
        if not isinstance(child, jinja.Macro):
            yield from _outside_macros(child, kind)
