"""The nodes of a parsed template; ``str`` of one is how Go's errors show it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ollamaq.chat.gotemplate.text import decode, quote


@dataclass(slots=True, eq=False)
class Node:
    """Begins at character ``pos`` of the template's text; -1 where it is not from there."""

    pos: int


@dataclass(slots=True, eq=False)
class Text(Node):
    text: bytes

    def __str__(self) -> str:
        return decode(self.text)


@dataclass(slots=True, eq=False)
class Field(Node):
    names: list[str]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


@dataclass(slots=True, eq=False)
class Variable(Node):
    names: list[str]
    """The variable with its ``$``, then fields."""

    def __str__(self) -> str:
        return ".".join(self.names)


@dataclass(slots=True, eq=False)
class Identifier(Node):
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(slots=True, eq=False)
class Dot(Node):
    def __str__(self) -> str:
        return "."


@dataclass(slots=True, eq=False)
class Nil(Node):
    def __str__(self) -> str:
        return "nil"


@dataclass(slots=True, eq=False)
class Bool(Node):
    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


@dataclass(slots=True, eq=False)
class Number(Node):
    value: int | float | None
    """None: a whole number that is too large for an int."""
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True, eq=False)
class String(Node):
    value: bytes
    literal: str

    def __str__(self) -> str:
        return self.literal


@dataclass(slots=True, eq=False)
class Command(Node):
    args: list[Node] = field(default_factory=list)

    def __str__(self) -> str:
        return " ".join(f"({arg})" if isinstance(arg, Pipe) else str(arg) for arg in self.args)


@dataclass(slots=True, eq=False)
class Pipe(Node):
    assigns: bool = False
    variables: list[Variable] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)

    def __str__(self) -> str:
        sign = " = " if self.assigns else " := "
        declared = ", ".join(map(str, self.variables)) + sign if self.variables else ""
        return declared + " | ".join(map(str, self.commands))


@dataclass(slots=True, eq=False)
class Chain(Node):
    """Fields of what is not a field or variable itself: ``(pipeline).A.B``."""

    node: Node
    names: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        of = f"({self.node})" if isinstance(self.node, Pipe) else str(self.node)
        return of + "".join(f".{name}" for name in self.names)


@dataclass(slots=True, eq=False)
class Action(Node):
    pipe: Pipe

    def __str__(self) -> str:
        return "{{" + str(self.pipe) + "}}"


@dataclass(slots=True, eq=False)
class Nodes(Node):
    nodes: list[Node] = field(default_factory=list)

    def __str__(self) -> str:
        return "".join(map(str, self.nodes))


@dataclass(slots=True, eq=False)
class Branch(Node):
    """``if``, ``with`` or ``range``, by ``keyword``."""

    keyword: str
    pipe: Pipe
    body: Nodes
    other: Nodes | None

    def __str__(self) -> str:
        other = "{{else}}" + str(self.other) if self.other is not None else ""
        return "{{" + f"{self.keyword} {self.pipe}" + "}}" + str(self.body) + other + "{{end}}"


@dataclass(slots=True, eq=False)
class Call(Node):
    """``template`` (or ``block``)."""

    name: bytes
    pipe: Pipe | None

    def __str__(self) -> str:
        pipe = f" {self.pipe}" if self.pipe else ""
        return "{{template " + quote(self.name) + pipe + "}}"


@dataclass(slots=True, eq=False)
class Leave(Node):
    """``break`` or ``continue``."""

    keyword: str

    def __str__(self) -> str:
        return "{{" + self.keyword + "}}"


@dataclass(slots=True, eq=False)
class End(Node):
    """``else`` or ``end``: only while parsing."""

    keyword: str

    def __str__(self) -> str:
        return "{{" + self.keyword + "}}"
