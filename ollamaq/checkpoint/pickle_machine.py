"""The part of pickle's language that plain data need, carried out without a single import or call of its choosing.

``pickletools`` (Python's own description of the language) takes the program apart; a table here says what each
instruction does. A global is looked up among those given, and nothing else is ever called.
"""

from __future__ import annotations

import pickletools
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

MAX_STEPS = 3_000_000
"""Some 40 a tensor are usual."""


class Forbidden(ValueError):
    """The program does more than to describe plain data."""


class _Machine:
    def __init__(self, names: Mapping[str, Any], persistent: Callable[[Any], Any]) -> None:
        self.names = names
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def last(self, count: int) -> tuple[Any, ...]:
        return tuple([self.stack.pop() for _ in range(count)][::-1])

    def named(self, name: str) -> Any:
        if name not in self.names:
            raise Forbidden(f"it asks for {name.replace(' ', '.')[:80]!r}")
        return self.names[name]

    def call(self) -> Any:
        function, arguments = self.last(2)
        if not callable(function) or not isinstance(arguments, tuple):
            raise Forbidden(f"it calls {reprlib.repr(function)}")
        return function(*arguments)

    def build(self) -> None:
        """State on top of a dict: versions of modules, for which nobody here has a use."""
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise Forbidden(f"it sets the state of {reprlib.repr(self.stack[-1])}")

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or not all(isinstance(key, str) for key in items[::2]):
            raise Forbidden(f"it has entries {reprlib.repr(items)}")
        target.update(zip(items[::2], items[1::2], strict=True))

    def append(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise Forbidden(f"it appends to {reprlib.repr(self.stack[-1])}")
        self.stack[-1].extend(items)


NOTHING = ("PROTO", "FRAME")
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
ARGUMENTS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE")
"""Instructions that put their argument on the stack."""
VALUES: dict[str, Callable[[_Machine, Any], Any]] = {
    "TUPLE": lambda machine, _: tuple(machine.since_mark()),
    "TUPLE1": lambda machine, _: machine.last(1),
    "TUPLE2": lambda machine, _: machine.last(2),
    "TUPLE3": lambda machine, _: machine.last(3),
    "GLOBAL": lambda machine, name: machine.named(name),
    "STACK_GLOBAL": lambda machine, _: machine.named(" ".join(machine.last(2))),
    "BINGET": lambda machine, place: machine.memo[place],
    "LONG_BINGET": lambda machine, place: machine.memo[place],
    "BINPERSID": lambda machine, _: machine.persistent(machine.stack.pop()),
    "REDUCE": lambda machine, _: machine.call(),
}
"""Instructions that put a value on the stack."""
EFFECTS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda machine, _: machine.mark(),
    "BINPUT": lambda machine, place: machine.memo.update({place: machine.stack[-1]}),
    "LONG_BINPUT": lambda machine, place: machine.memo.update({place: machine.stack[-1]}),
    "MEMOIZE": lambda machine, _: machine.memo.update({len(machine.memo): machine.stack[-1]}),
    "BUILD": lambda machine, _: machine.build(),
    "SETITEM": lambda machine, _: machine.set_items(list(machine.last(2))),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
}


def run(program: bytes, names: Mapping[str, Any], persistent: Callable[[Any], Any]) -> Any:
    """What a pickle describes.

    Args:
        program: the pickle.
        names: what ``"module name"`` stands for; those that are callable may be called, with any arguments.
        persistent: what a persistent id stands for.

    Raises:
        Forbidden: it has instructions or globals beyond these.
        ValueError, LookupError, TypeError: it is damaged, or ``names`` or ``persistent`` raise so.
    """
    machine = _Machine(names, persistent)
    for step, (instruction, argument, _) in enumerate(pickletools.genops(program)):
        name = instruction.name
        if step == MAX_STEPS:
            raise Forbidden(f"it has more than {MAX_STEPS:,} instructions")
        if name in CONSTANTS:
            machine.stack.append(CONSTANTS[name]())
        elif name in ARGUMENTS:
            machine.stack.append(argument)
        elif name in VALUES:
            value = VALUES[name](machine, argument)
            machine.stack.append(value)
        elif name in EFFECTS:
            EFFECTS[name](machine, argument)
        elif name == "STOP":
            break
        elif name not in NOTHING:
            raise Forbidden(f"it has the instruction {name}")
    return machine.stack.pop()
