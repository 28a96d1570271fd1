"""Macros: written where they are called, but for those that call themselves."""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import nodes as jinja

from ollamaq.chat.derive.adding_up import made_within
from ollamaq.chat.derive.go import Expr, Template
from ollamaq.chat.derive.loops import Loops
from ollamaq.chat.derive.values import (
    NOTHING,
    Macro,
    Rope,
    Static,
    Unknown,
    Value,
)

MAX_DEFINED = 8
"""Templates made of macros that call themselves."""


class Macros(Loops):
    """Calls of a template's own functions."""

    def called(self, macro: Macro, args: list[Value], named: dict[str, Value]) -> Value:
        node = macro.node
        names = [argument.name for argument in node.args]
        given = dict(zip(names, args, strict=False)) | named
        defaults = dict(zip(names[len(names) - len(node.defaults) :], node.defaults, strict=True))
        values = {
            name: given.get(name) or (self.value(defaults[name]) if name in defaults else NOTHING) for name in names
        }
        if macro.depth[0]:
            return self.defined_once(macro, values)
        spaces = made_within(node)
        own = {key for key in self.env if key.partition(".")[0] in spaces}
        kept, mutable = self.env, {key: entry for key, entry in self.mutable.items() if key in own}
        self.env = {key: value for key, value in kept.items() if key not in own} | values
        macro.depth[0] += 1
        try:
            return self.rope(lambda: self.block(node.body))
        finally:
            macro.depth[0] -= 1
            changed = {key: value for key, value in self.env.items() if "." in key and key in kept.keys() - own}
            self.env = {**kept, **changed}
            self.mutable |= mutable

    def defined_once(self, macro: Macro, values: dict[str, Value]) -> Value:
        """A macro that calls itself, as a template that does: of one argument, as that is all that Go hands on."""
        values = {name: value if _reads(macro.node, name) else NOTHING for name, value in values.items()}
        changing = {name: value for name, value in values.items() if not isinstance(value, Static)}
        if len(changing) != 1:
            return Unknown(f"macro {macro.node.name} calls itself with more than one argument")
        ((argument, value),) = changing.items()
        kind, expr = self.kind(value), self.pure(value)
        if not kind or expr is None:
            return Unknown(f"macro {macro.node.name} calls itself")
        key = repr((macro.node.name, kind, values.keys(), [v for v in values.values() if isinstance(v, Static)]))
        if key not in self.defined_as:
            if len(self.defined_as) >= MAX_DEFINED:
                return Unknown(f"macro {macro.node.name} calls itself with ever other arguments")
            self.defined_as[key] = name = f"{macro.node.name} {len(self.defined_as) + 1}"
            outside = self.env, self.out, self.known, self.cache, self.speakers, self.mutable, self.mutable_names
            self.env = {name: one for name, one in self.env.items() if isinstance(one, Static | Macro)}
            self.env |= values | {argument: self.of_kind(kind, Expr("$"))}
            self.out, self.known, self.cache, self.speakers = [], [], {}, []
            self.mutable, self.mutable_names = {}, set()
            try:
                self.block(macro.node.body)
                self.definitions[name] = self.out
            finally:
                self.env, self.out, self.known, self.cache, self.speakers, self.mutable, self.mutable_names = outside
        return Rope([Template(self.defined_as[key], expr)])


def _reads(macro: jinja.Macro, name: str) -> bool:
    """Whether a macro makes use of an argument, but to hand it on to itself."""
    own = [call for call in macro.find_all(jinja.Call) if getattr(call.node, "name", None) == macro.name]
    handed = sum(getattr(argument, "name", None) == name for call in own for argument in call.args)
    read = sum(found.name == name and found.ctx == "load" for part in macro.body for found in _names_in(part))
    return bool(read > handed)


def _names_in(node: jinja.Node) -> Iterator[jinja.Name]:
    if isinstance(node, jinja.Name):
        yield node
    yield from node.find_all(jinja.Name)
