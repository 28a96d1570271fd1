"""Go templates as a tree: expressions, nodes, and the readable text of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Expr:
    """A function of Go's and its arguments, or (without any) a variable, a field or a literal."""

    text: str
    args: tuple[Expr, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.text, *(f"({arg})" if arg.args else str(arg) for arg in self.args)])

    @property
    def atoms(self) -> Iterator[str]:
        if not self.args:
            yield self.text
        for arg in self.args:
            yield from arg.atoms

    def names(self) -> set[str]:
        """The variables that it reads."""
        return {name for atom in self.atoms if not atom.startswith('"') for name in re.findall(r"\$[A-Za-z_]\w*", atom)}


TRUE, FALSE, EMPTY = Expr("true"), Expr("false"), Expr('""')


def call(function: str, *args: Expr) -> Expr:
    return Expr(function, args)


def field_of(expr: Expr, name: str) -> Expr:
    text = f"({expr})" if expr.args else expr.text
    return Expr(f"{text}.{name}".replace("$..", "$."))


def number(value: int) -> Expr:
    return Expr(str(value))


def string(text: str) -> Expr:
    return Expr(quoted(text))


def quoted(text: str) -> str:
    """A literal of Go's, in printable ASCII and what is printable beyond it."""
    shown = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
    return '"' + "".join(shown.get(c) or (c if c.isprintable() else _escaped(c)) for c in text) + '"'


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# --- conditions -----------------------------------------------------------------------------------------------------


def negated(cond: Expr) -> Expr:
    if cond in (TRUE, FALSE):
        return FALSE if cond is TRUE or cond == TRUE else TRUE
    opposite = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}
    if cond.text == "not" and cond.args:
        return cond.args[0]
    if cond.text in opposite and len(cond.args) == 2:
        return Expr(opposite[cond.text], cond.args)
    return call("not", cond)


def both(*conds: Expr) -> Expr:
    return _joined("and", TRUE, FALSE, conds)


def either(*conds: Expr) -> Expr:
    return _joined("or", FALSE, TRUE, conds)


def _joined(function: str, neutral: Expr, final: Expr, conds: Iterable[Expr]) -> Expr:
    parts: list[Expr] = []
    for cond in conds:
        for part in cond.args if cond.text == function and cond.args else (cond,):
            if part == final or negated(part) in parts:
                return final
            if part != neutral and part not in parts:
                parts.append(part)
    return neutral if not parts else parts[0] if len(parts) == 1 else Expr(function, tuple(parts))


# --- nodes ----------------------------------------------------------------------------------------------------------


class Node:
    pass


Nodes = list[Node]


@dataclass
class Text(Node):
    text: str


@dataclass
class Print(Node):
    expr: Expr
    said: bool = False
    """Whether it is what an assistant said, after which a prompt that goes on with it must end."""


@dataclass
class Template(Node):
    """Another template's text, of an argument."""

    name: str
    expr: Expr


@dataclass
class Declare(Node):
    name: str
    expr: Expr


@dataclass
class Set(Node):
    name: str
    expr: Expr


@dataclass
class Strip(Node):
    """White space, or other characters, taken off the ends of a variable's text; the counter is for the loops."""

    name: str
    counter: str
    left: bool
    right: bool
    characters: str | None


@dataclass
class If(Node):
    cond: Expr
    body: Nodes
    other: Nodes = field(default_factory=list)


@dataclass
class Range(Node):
    """``index`` and ``item`` are variables; an empty ``item`` is for ranges over numbers."""

    index: str
    item: str
    over: Expr
    body: Nodes


@dataclass
class Break(Node):
    pass


@dataclass
class Begin(Node):
    """Where the text of another element of a list begins, until it is known what comes between them."""


def walk(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        match node:
            case If():
                yield from walk(node.body)
                yield from walk(node.other)
            case Range():
                yield from walk(node.body)


def rewritten(nodes: Nodes, change: Callable[[Node], Nodes]) -> Nodes:
    """With nodes in the place of each, innermost first."""
    made: Nodes = []
    for node in nodes:
        match node:
            case If():
                node = If(node.cond, rewritten(node.body, change), rewritten(node.other, change))
            case Range():
                node = Range(node.index, node.item, node.over, rewritten(node.body, change))
        made += change(node)
    return made


def read_names(nodes: Sequence[Node], *, nested: bool = True) -> set[str]:
    """The variables that are read, anywhere or not in what is nested."""
    found: set[str] = set()
    for node in walk(nodes) if nested else nodes:
        match node:
            case Strip():
                found.add(node.name)
            case Print() | Template() | Declare() | Set():
                found |= node.expr.names()
            case If():
                found |= node.cond.names()
            case Range():
                found |= node.over.names()
    return found


def pruned(nodes: Nodes) -> Nodes:
    """Without variables that nothing reads, and what is then empty."""
    while True:
        kept = _without(nodes, _needed(nodes))
        if kept == nodes:
            return kept
        nodes = kept


def _needed(nodes: Nodes) -> set[str]:
    """Variables that reach a text or a condition: one that only feeds itself does not count."""
    feeds: dict[str, set[str]] = {}
    found: set[str] = set()
    for node in walk(nodes):
        match node:
            case Declare() | Set():
                feeds.setdefault(node.name, set()).update(node.expr.names())
            case Print() | Template():
                found |= node.expr.names()
            case If():
                found |= node.cond.names()
            case Range():
                found |= node.over.names()
    waiting = list(found)
    while waiting:
        for name in feeds.get(waiting.pop(), ()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def _without(nodes: Nodes, needed: set[str]) -> Nodes:
    kept: Nodes = []
    for node in nodes:
        match node:
            case Declare() | Set() | Strip() if node.name not in needed:
                continue
            case Text() if kept and isinstance(kept[-1], Text):
                kept[-1] = Text(kept[-1].text + node.text)
                continue
            case Text(text=""):
                continue
            case If():
                body, other = _without(node.body, needed), _without(node.other, needed)
                if not body and not other:
                    continue
                node = If(negated(node.cond), other, []) if not body else If(node.cond, body, other)
                if node.body == node.other:
                    kept.extend(node.body)
                    continue
            case Range():
                body = _without(node.body, needed)
                if not body or all(isinstance(child, Break) for child in body):
                    continue
                node = Range(node.index, node.item, node.over, body)
        kept.append(node)
    return kept


# --- text -----------------------------------------------------------------------------------------------------------


def text_of(nodes: Nodes) -> str:
    """The template's text: control structures on lines of their own wherever that changes nothing."""
    writer = _Writer()
    writer.nodes(nodes)
    return writer.text.removeprefix("\n")


class _Writer:
    def __init__(self) -> None:
        self.text = ""
        self.depth = 0
        self.ranges = 0

    def nodes(self, nodes: Nodes) -> None:
        for node in nodes:
            self.node(node)

    def node(self, node: Node) -> None:
        match node:
            case Text():
                self.literal(node.text)
            case Print():
                self.action(str(node.expr), inline=True)
            case Template():
                self.action(f'template "{node.name}" {_argument(node.expr)}', inline=True)
            case Declare():
                self.action(f"{node.name} := {node.expr}")
            case Set():
                self.action(f"{node.name} = {node.expr}")
            case Break():
                self.action("break")
            case If():
                self.action(f"if {node.cond}")
                self.inside(node.body)
                other = node.other
                while len(other) == 1 and isinstance(other[0], If):
                    self.action(f"else if {other[0].cond}")
                    self.inside(other[0].body)
                    other = other[0].other
                if other:
                    self.action("else")
                    self.inside(other)
                self.action("end")
            case Range():
                names = ", ".join(name for name in (node.index, node.item) if name)
                self.action(f"range {names} := {node.over}")
                self.ranges += 1
                self.inside(node.body)
                self.ranges -= 1
                self.action("end")

    def inside(self, nodes: Nodes) -> None:
        self.depth += 1
        self.nodes(nodes)
        self.depth -= 1

    def action(self, inner: str, *, inline: bool = False) -> None:
        if not self.ranges:
            inner = _outside_strings(inner, lambda part: re.sub(r"\$\.(?=[A-Z])", ".", part))
        if (inline and self.text[-1:] != "{") or self.text[-1:].isspace():
            self.text += "{{ " + inner + " }}"
        else:
            self.text += "\n" + "  " * self.depth + "{{- " + inner + " }}"

    def literal(self, text: str) -> None:
        """Text as it is, but for what a Modelfile would lose and a template take for something else."""
        for at, part in enumerate(re.split(r'(\{\{|"""|[^\x20-\x7e\n\t]+)', text)):
            if (at % 2 and not (part.isprintable() and part[0] > "~")) or (not self.text and part[:1].isspace()):
                self.action(quoted(part), inline=True)
            else:
                self.text += part


def _argument(expr: Expr) -> str:
    return f"({expr})" if expr.args else str(expr)


def _outside_strings(text: str, change: object) -> str:
    parts = re.split(r'("(?:[^"\\]|\\.)*")', text)
    return "".join(part if at % 2 else change(part) for at, part in enumerate(parts))  # type: ignore[operator]
