"""Executes a parsed template, as Go's ``text/template`` does, within bounds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ollamaq.chat.gotemplate import syntax
from ollamaq.chat.gotemplate.errors import TemplateError
from ollamaq.chat.gotemplate.functions import BUILTINS, Argument, Arguments, CallError, Function
from ollamaq.chat.gotemplate.printing import MAX_BYTES, CannotPrint, printable, sprint
from ollamaq.chat.gotemplate.text import decode, encode, quote
from ollamaq.chat.gotemplate.types import ANY, BOOL, FLOAT, INT, STRING, Type, Value, concrete, indirect, is_true

MAX_SECONDS = 10.0
MAX_STEPS = 5_000_000
MAX_OUTPUT = MAX_BYTES
"""Bytes of a rendering, and of any text made on the way."""
MAX_DEPTH = 60
"""Of templates that call templates."""


class _Missing:
    """No value came through the pipe."""


MISSING = _Missing()
Final = Value | None | _Missing


class _Leave(Exception):
    """On the way out of a range."""


class _Break(_Leave):
    pass


class _Continue(_Leave):
    pass


_BREAK, _CONTINUE = _Break(), _Continue()


@dataclass(slots=True)
class Meter:
    """What a rendering may still do; one for all executions of it."""

    steps: int = MAX_STEPS
    deadline: float = field(default_factory=lambda: time.monotonic() + MAX_SECONDS)


@dataclass(frozen=True, slots=True)
class Program:
    """A template's text and trees. ``functions`` are those beside Go's own; ``zero``: a missing key is its zero."""

    text: str
    trees: Mapping[bytes, syntax.Nodes]
    functions: Mapping[str, Function]
    zero: bool = True


def execute(program: Program, tree: syntax.Nodes, data: Value, out: bytearray, meter: Meter) -> None:
    """Append what the tree renders.

    Raises:
        TemplateError: with the words of Go, or it takes too long, or makes too much.
    """
    state = _State(program, b"", [("$", data)], out, meter, 0)
    try:
        state.walk(data, tree)
    except RecursionError:
        state.fail("it goes too deep")


class _State:
    def __init__(
        self,
        program: Program,
        name: bytes,
        variables: list[tuple[str, Argument]],
        out: bytearray,
        meter: Meter,
        depth: int,
    ) -> None:
        self.program, self.name, self.variables = program, name, variables
        self.out, self.meter, self.depth = out, meter, depth
        self.node: syntax.Node = syntax.Nodes(0)
        self.walks: dict[type[syntax.Node], Callable[[Argument, syntax.Node], None]] = {
            syntax.Text: self.text,
            syntax.Action: self.action,
            syntax.Nodes: self.nodes,
            syntax.Branch: self.branch,
            syntax.Call: self.template,
            syntax.Leave: self.leave,
        }

    def fail(self, said: str, node: syntax.Node | None = None) -> None:
        node = node or self.node
        text, pos = self.program.text, max(node.pos, 0)
        start = text.rfind("\n", 0, pos) + 1
        line, column = 1 + text.count("\n", 0, pos), len(encode(text[start:pos]))
        where = f":{line}:{column}"
        go = f"template: {where}: executing {quote(self.name)} at <{node}>: {said}"
        raise TemplateError(f"{said} (at {_brief(node)})", line, pos - start + 1, go)

    def step(self, weight: int = 1) -> None:
        meter = self.meter
        meter.steps -= weight
        if meter.steps < 0 or time.monotonic() > meter.deadline:
            self.fail(f"it takes more than {MAX_SECONDS:.0f} seconds or {MAX_STEPS:,} steps")

    def write(self, data: bytes) -> None:
        self.out += data
        if len(self.out) > MAX_OUTPUT:
            self.fail(f"it makes more than {MAX_OUTPUT:,} bytes")

    # --- nodes ------------------------------------------------------------------------------------------------------

    def walk(self, dot: Argument, node: syntax.Node) -> None:
        self.node = node
        self.step()
        self.walks[type(node)](dot, node)

    def text(self, dot: Argument, node: syntax.Node) -> None:
        assert isinstance(node, syntax.Text)
        self.write(node.text)

    def nodes(self, dot: Argument, node: syntax.Node) -> None:
        assert isinstance(node, syntax.Nodes)
        for child in node.nodes:
            self.walk(dot, child)

    def leave(self, dot: Argument, node: syntax.Node) -> None:
        assert isinstance(node, syntax.Leave)
        raise _BREAK if node.keyword == "break" else _CONTINUE

    def action(self, dot: Argument, node: syntax.Node) -> None:
        assert isinstance(node, syntax.Action)
        value = self.pipeline(dot, node.pipe)
        if node.pipe.variables:
            return
        self.node = node
        if value is None:
            self.write(b"<no value>")
        elif value.type.kind == "string":
            self.write(value.data)
        elif value.type.kind == "func":
            self.fail(f"can't print {node} of type {value.type.name}")
        else:
            self.write(self.guarded(lambda: sprint([printable(value)])))

    def guarded(self, make: Callable[[], bytes]) -> bytes:
        try:
            return make()
        except CannotPrint as error:
            self.fail(str(error))
            raise

    def branch(self, dot: Argument, node: syntax.Node) -> None:
        assert isinstance(node, syntax.Branch)
        mark = len(self.variables)
        try:
            if node.keyword == "range":
                self.range(dot, node)
                return
            value = self.pipeline(dot, node.pipe)
            if is_true(value):
                self.walk(value if node.keyword == "with" else dot, node.body)
            elif node.other is not None:
                self.walk(dot, node.other)
        finally:
            del self.variables[mark:]

    def range(self, dot: Argument, node: syntax.Branch) -> None:
        value, _ = indirect(self.pipeline(dot, node.pipe))
        mark, ran, names = len(self.variables), False, [variable.names[0] for variable in node.pipe.variables]
        try:
            for index, item in self.items(value, node):
                ran = True
                self.step()
                if node.pipe.assigns:
                    for name, given in zip(names, (index, item) if len(names) > 1 else (item,), strict=False):
                        self.assign(name, given)
                elif names:
                    self.variables[mark - 1] = (names[-1], item)
                    if len(names) > 1:
                        self.variables[mark - 2] = (names[0], index)
                with contextlib.suppress(_Continue):
                    self.walk(item, node.body)
                del self.variables[mark:]
        except _Break:
            return
        if not ran and node.other is not None:
            self.walk(dot, node.other)

    def items(self, value: Argument, node: syntax.Branch) -> Iterable[tuple[Argument, Argument]]:
        """Pairs of index and element."""
        names = node.pipe.variables
        if value is None:
            return ()
        kind, data = value.type.kind, value.data
        if kind in ("int", "uint8"):
            if len(names) > 1:
                self.fail(f"can't use {data} to iterate over more than one variable")
            return ((None, Value(value.type, number)) for number in range(data))
        if kind == "slice":
            elem = value.type.element
            return ((Value(INT, at), Value(elem, item)) for at, item in enumerate(data or ()))
        if kind == "map":
            elem = value.type.element
            return ((Value(STRING, key), Value(elem, data[key])) for key in sorted(data or ()))
        if kind == "func" and value.type.name.startswith("iter.Seq2"):
            pairs: Iterable[tuple[Argument, Argument]] = data
            return pairs if len(names) > 1 else ((None, key) for key, _ in data)
        shown = self.guarded(lambda: sprint([value]))
        self.fail(f"range can't iterate over {decode(shown)}")
        return ()

    def template(self, dot: Argument, node: syntax.Node) -> None:
        assert isinstance(node, syntax.Call)
        tree = self.program.trees.get(node.name)
        if tree is None:
            self.fail(f"template {quote(node.name)} not defined")
            return
        if self.depth == MAX_DEPTH:
            self.fail(f"exceeded maximum template depth ({MAX_DEPTH})")
        dot = self.pipeline(dot, node.pipe) if node.pipe else None
        inner = _State(self.program, node.name, [("$", dot)], self.out, self.meter, self.depth + 1)
        inner.walk(dot, tree)

    # --- pipelines --------------------------------------------------------------------------------------------------

    def pipeline(self, dot: Argument, pipe: syntax.Pipe) -> Argument:
        self.node = pipe
        value: Final = MISSING
        for command in pipe.commands:
            value = concrete(self.command(dot, command, value))
        assert not isinstance(value, _Missing)
        for variable in pipe.variables:
            if pipe.assigns:
                self.assign(variable.names[0], value)
            else:
                self.variables.append((variable.names[0], value))
        return value

    def assign(self, name: str, value: Argument) -> None:
        for at in range(len(self.variables) - 1, -1, -1):
            if self.variables[at][0] == name:
                self.variables[at] = (name, value)
                return
        self.fail(f"undefined variable: {name}")

    def command(self, dot: Argument, command: syntax.Command, final: Final) -> Argument:
        self.step()
        first, args = command.args[0], command.args
        if isinstance(first, syntax.Field):
            return self.field(dot, first, args, final)
        if isinstance(first, syntax.Identifier):
            return self.function(dot, first, command, args, final)
        if isinstance(first, syntax.Variable):
            return self.variable(dot, first, args, final)
        if isinstance(first, syntax.Chain):
            return self.chain(dot, first, args, final)
        if not isinstance(first, syntax.Pipe):
            self.node = first
        self.no_function(args, final)
        if isinstance(first, syntax.Pipe):
            return self.pipeline(dot, first)
        if isinstance(first, syntax.Nil):
            self.fail("nil is not a command")
        return self.plain(dot, first)

    def no_function(self, args: list[syntax.Node], final: Final) -> None:
        if len(args) > 1 or final is not MISSING:
            self.fail(f"can't give argument to non-function {args[0] if args else ''}")

    def plain(self, dot: Argument, node: syntax.Node) -> Argument:
        """A constant or the dot."""
        self.node = node
        if isinstance(node, syntax.String):
            return Value(STRING, node.value)
        if isinstance(node, syntax.Number):
            return self.number(node)
        if isinstance(node, syntax.Bool):
            return Value(BOOL, node.value)
        assert isinstance(node, syntax.Dot)
        return dot

    def number(self, node: syntax.Number) -> Argument:
        if node.value is None:
            self.fail(f"{node.text} overflows int")
        if isinstance(node.value, float):
            return Value(FLOAT, node.value)
        return Value(INT, node.value)

    def variable(self, dot: Argument, node: syntax.Variable, args: list[syntax.Node], final: Final) -> Argument:
        self.node = node
        value = self.variable_value(node.names[0])
        if len(node.names) > 1:
            return self.fields(dot, value, node, node.names[1:], args, final)
        self.no_function(args, final)
        return value

    def variable_value(self, name: str) -> Argument:
        value: Argument
        for known, value in reversed(self.variables):
            if known == name:
                return value
        self.fail(f"undefined variable: {name}")
        raise AssertionError

    def field(self, dot: Argument, node: syntax.Field, args: list[syntax.Node], final: Final) -> Argument:
        self.node = node
        return self.fields(dot, dot, node, node.names, args, final)

    def chain(self, dot: Argument, node: syntax.Chain, args: list[syntax.Node], final: Final) -> Argument:
        self.node = node
        return self.fields(dot, self.argument(dot, None, node.node), node, node.names, args, final)

    def fields(
        self,
        dot: Argument,
        receiver: Argument,
        node: syntax.Node,
        names: list[str],
        args: list[syntax.Node],
        final: Final,
    ) -> Argument:
        for name in names[:-1]:
            receiver = self.member(dot, name, node, [], MISSING, receiver)
        return self.member(dot, names[-1], node, args, final, receiver)

    def member(
        self,
        dot: Argument,
        name: str,
        node: syntax.Node,
        args: list[syntax.Node],
        final: Final,
        receiver: Argument,
    ) -> Argument:
        """A field, a key of a map, or what a method returns."""
        if receiver is None:
            return None
        type_ = receiver.type
        found, nil = indirect(receiver)
        assert found
        if nil and found.type.kind == "interface":
            self.fail(f"nil pointer evaluating {type_.name}.{name}")
        method = (found.type.element if found.type.kind == "ptr" else found.type).methods.get(name)
        if method:
            given = len(args[1:]) + (final is not MISSING)
            if given != method.takes:
                self.fail(f"wrong number of args for {name}: want {method.takes} got {given}")
            if method.wrong:
                self.fail(method.wrong)
            return method.run(found.data)
        has_arguments = len(args) > 1 or final is not MISSING
        if found.type.kind == "struct":
            for part in found.type.fields:
                if part.name == name:
                    if name[0].islower():
                        self.fail(f"{name} is an unexported field of struct type {type_.name}")
                    if has_arguments:
                        self.fail(f"{name} has arguments but cannot be invoked as function")
                    return Value(part.type, found.data[name])
        elif found.type.kind == "map":
            if has_arguments:
                self.fail(f"{name} is not a method but has arguments")
            key, elem = encode(name), found.type.element
            if found.data and key in found.data:
                return Value(elem, found.data[key])
            return Value(elem, elem.zero()) if self.program.zero else None
        elif nil and any(part.name == name for part in found.type.element.fields):
            self.fail(f"nil pointer evaluating {type_.name}.{name}")
        self.fail(f"can't evaluate field {name} in type {type_.name}")
        raise AssertionError

    # --- functions --------------------------------------------------------------------------------------------------

    def function(
        self, dot: Argument, node: syntax.Identifier, whole: syntax.Node, args: list[syntax.Node], final: Final
    ) -> Argument:
        self.node = node
        name = node.name
        function = self.program.functions.get(name) or BUILTINS.get(name)
        if function is None:
            self.fail(f"{quote(encode(name))} is not a defined function")
            raise AssertionError
        args = args[1:]
        given, fixed = len(args) + (final is not MISSING), len(function.fixed)
        if function.rest and given < fixed:
            self.fail(f"wrong number of args for {name}: want at least {fixed} got {len(args)}")
        if not function.rest and given != fixed:
            self.fail(f"wrong number of args for {name}: want {fixed} got {given}")
        if name in ("and", "or"):
            return self.junction(dot, name, args, final)
        types = function.fixed + function.rest * (given - fixed)
        values: Arguments = [self.argument(dot, type_, arg) for type_, arg in zip(types, args, strict=False)]
        if not isinstance(final, _Missing):
            values.append(self.fitting(final, types[-1]))
        return self.result(function, name, values, whole, args)

    def result(
        self, function: Function, name: str, values: Arguments, whole: syntax.Node, args: list[syntax.Node]
    ) -> Argument:
        try:
            made = function.run(*values)
        except CannotPrint as error:
            self.fail(str(error), whole)
        except CallError as error:
            said = str(error)
            if name == "call" and said.startswith("non-function"):
                callee = str(args[0]) if args else _string(values[0])
                said = said.replace('""', callee, 1)
            self.fail(f"error calling {name}: {said}", whole)
        if made is not None and made.type.kind == "string":
            self.step(len(made.data) >> 6)
            if len(made.data) > MAX_OUTPUT:
                self.fail(f"it makes more than {MAX_OUTPUT:,} bytes")
        return made

    def junction(self, dot: Argument, name: str, args: list[syntax.Node], final: Final) -> Argument:
        value: Argument = None
        for arg in args:
            value = self.argument(dot, None, arg)
            if is_true(value) == (name == "or"):
                return value
        return value if isinstance(final, _Missing) else final

    def argument(self, dot: Argument, type_: Type | None, node: syntax.Node) -> Argument:
        """The value of an argument for a parameter of a type, None being any value as it is."""
        self.node = node
        if isinstance(node, syntax.Field):
            return self.fitting(self.field(dot, node, [node], MISSING), type_)
        if isinstance(node, syntax.Variable):
            return self.fitting(self.variable(dot, node, [], MISSING), type_)
        if isinstance(node, syntax.Pipe):
            return self.fitting(self.pipeline(dot, node), type_)
        if isinstance(node, syntax.Identifier):
            return self.fitting(self.function(dot, node, node, [], MISSING), type_)
        if isinstance(node, syntax.Chain):
            return self.fitting(self.chain(dot, node, [], MISSING), type_)
        if isinstance(node, syntax.Dot):
            return self.fitting(dot, type_)
        if isinstance(node, syntax.Nil):
            if type_ is STRING:
                self.fail("cannot assign nil to string")
            return None
        if type_ is STRING and not isinstance(node, syntax.String):
            self.fail(f"expected string; found {node}")
        return self.plain(dot, node)

    def fitting(self, value: Argument, type_: Type | None) -> Argument:
        if type_ is None:
            return value
        if type_ is ANY:
            return concrete(value)
        if value is None:
            self.fail(f"invalid value; expected {type_.name}")
            raise AssertionError
        inside = concrete(value) or value
        if inside.type.name != type_.name:
            self.fail(f"wrong type for value; expected {type_.name}; got {inside.type.name}")
        return inside


def _brief(node: syntax.Node) -> str:
    text = str(node)
    return text if len(text) <= 60 else text[:60] + "…"


def _string(value: Argument) -> str:
    """``reflect.Value.String``."""
    if value is not None and value.type.kind == "string":
        return decode(value.data)
    return f"<{value.type.name if value else 'invalid'} Value>"
