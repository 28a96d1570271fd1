"""A Jinja sandbox for the programs of strangers: no way out, and only so much time and text to make.

Loops and macros are counted, and what can make much of little (``*``, ``~``, literals, some filters and methods) is
weighed before it is done. The environment is otherwise that of transformers (``utils/chat_template_utils.py``).
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_SECONDS = 10.0
MAX_STEPS = 50_000_000
"""Iterations, calls and characters made, in one rendering."""
MAX_WEIGHT = 16_000_000
"""Characters that one value may stand for."""
MAX_BITS = 100_000
"""Of a whole number."""
GROWING = {
    *("batch", "center", "expandtabs", "format", "format_map", "indent", "join", "ljust", "pprint", "replace", "rjust"),
    *("slice", "string", "to_bytes", "tojson", "translate", "truncate", "urlize", "wordwrap", "xmlattr", "zfill"),
}
"""Filters and methods whose result may be as long as their arguments multiplied."""
FORMATTING = {"format", "format_map"}
METER = "steps left"
"""Where a rendering has its meter: no name that a template could write."""


class OutOfBounds(Exception):
    """The template takes too long, or makes too much."""


class TemplateRefuses(Exception):
    """The template itself raised an exception: it has no form for this conversation."""


class Meter:
    """What a rendering may still do."""

    def __init__(self) -> None:
        self.steps = MAX_STEPS
        self.deadline = time.monotonic() + MAX_SECONDS

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0 or time.monotonic() > self.deadline:
            raise OutOfBounds


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of chat templates; ``template`` compiles one, whose variables need a ``METER``."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, loopcontrols],
            finalize=_weighed,
            optimized=False,  # or the compiler would work out constant expressions, unmetered
        )
        self.filters["tojson"] = _tojson
        self.filters = {name: _metered(name, filter_) for name, filter_ in self.filters.items()}
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now, "namespace": _Namespace}
        del self.globals["lipsum"]  # an essay of random words
        self.step, self.weighed = _step, _weighed

    def template(self, source: str) -> Template:
        tree = _Metering().visit(self.parse(source))
        tree.set_environment(self)
        return self.from_string(tree)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, int) and isinstance(right, int):
            if (
                operator != "%"
                and left.bit_length() * (right if operator == "**" else 1) + right.bit_length() > MAX_BITS
            ):
                raise OutOfBounds
        elif operator == "+":
            _limit(context, _weight([left, right]))
        elif operator == "*" or isinstance(left, str):
            subject, argument = (right, left) if isinstance(left, int) else (left, right)
            _limit(context, _growth(subject, argument, form=operator == "%"))
        return _made(context, super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 (as in Jinja)
        if __obj is _step or __obj is _weighed:
            return __obj(__context, *args)
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps ``format``
        name, subject = getattr(method, "__name__", ""), getattr(method, "__self__", None)
        if name in GROWING and subject is not None:
            _limit(__context, _growth(subject, *args, *kwargs.values(), form=name in FORMATTING))
        return _made(__context, super().call(__context, __obj, *args, **kwargs))


def _meter(context: Context) -> Meter:
    meter: Meter = context.parent[METER]
    return meter


def _limit(context: Context, weight: int) -> None:
    _meter(context).spend(1)
    if weight > MAX_WEIGHT:
        raise OutOfBounds


def _made(context: Context, value: Any) -> Any:
    _meter(context).spend(1 + len(value) if isinstance(value, str) else 1)
    return value


@pass_context
def _step(context: Context, steps: int) -> None:
    _meter(context).spend(steps)


@pass_context
def _weighed(context: Context, value: Any) -> Any:
    _limit(context, _weight(value))
    return _made(context, value)


def _weight(value: Any) -> int:
    """About the characters that a value comes to when it is written out, counting shared parts each time."""
    weight, waiting = 1, [value]
    while waiting and weight <= MAX_WEIGHT:
        item = waiting.pop()
        weight += len(item) if isinstance(item, str | Mapping | list | tuple | set | frozenset) else 1
        if isinstance(item, Mapping):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            waiting.extend(item)
    return weight


def _growth(subject: Any, *arguments: Any, form: bool = False) -> int:
    """What a subject may grow to by arguments: a number may be a width or a count.

    In a format (of ``%`` or ``format``) it is one only where the format asks for it, or says it itself.
    """
    weight = _weight(subject)
    if form and isinstance(subject, str):
        weight += sum(int(digits[:9]) for digits in re.findall(r"\d+", subject))
        form = not re.search(r"\*|{[^}]*{", subject)
    numbers = [] if form else [abs(item) for item in _flat(arguments) if isinstance(item, int)]
    return weight * (sum(numbers) + _weight(arguments))


def _flat(arguments: Iterable[Any]) -> Iterable[Any]:
    for argument in arguments:
        yield from argument if isinstance(argument, tuple) else (argument,)


def _metered(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, with its input and what it may make of it weighed; it still gets what it asks Jinja for."""
    wants = getattr(getattr(filter_, "jinja_pass_arg", None), "name", None)

    @functools.wraps(filter_)
    def metered(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        arguments = (*args, *kwargs.values()) if name in GROWING else ()
        _limit(context, _growth(value, *arguments, form=name in FORMATTING))
        given = {"context": (context,), "eval_context": (context.eval_ctx,), "environment": (context.environment,)}
        return _made(context, filter_(*given.get(wants or "", ()), value, *args, **kwargs))

    return pass_context(metered)


class _Metering(NodeTransformer):
    """Puts the meter into a template: in front of what is repeated, and around what holds other values."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        super().generic_visit(node)
        if isinstance(node, nodes.For | nodes.Macro | nodes.CallBlock):
            steps = 1 + sum(len(data.data) for part in node.body for data in _texts(part))
            node.body.insert(0, nodes.ExprStmt(_call("step", nodes.Const(steps), node.lineno), lineno=node.lineno))
        elif isinstance(node, nodes.Concat):
            node.nodes = [_call("weighed", part, part.lineno) for part in node.nodes]
        elif isinstance(node, nodes.List | nodes.Dict) or (isinstance(node, nodes.Tuple) and node.ctx == "load"):
            return _call("weighed", node, node.lineno)
        return node


def _texts(node: nodes.Node) -> Iterable[nodes.TemplateData]:
    return [node] if isinstance(node, nodes.TemplateData) else node.find_all(nodes.TemplateData)


def _call(function: str, argument: nodes.Expr, line: int) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(function), [argument], [], None, None, lineno=line)


class _Generation(Extension):
    """``{% generation %}`` marks what the assistant says, for training: a scope of its own that changes no text."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own declaration)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Macro) -> str:
        said: str = caller()
        return said


class _Namespace(Namespace):
    """Jinja's, without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # ``self`` may be one of the names
        self, *given = args
        names = dict(*given, **kwargs)
        for name in names:
            _Namespace._allow(name)
        Namespace.__init__(self, names)

    def __setitem__(self, name: str, value: Any) -> None:
        _Namespace._allow(name)
        Namespace.__setitem__(self, name, value)

    @staticmethod
    def _allow(name: str) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace may not have {name!r}")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(form: str) -> str:
    if _growth(form, form=True) > 10_000:
        raise TemplateError("the form of a date is too long")
    return datetime.now().strftime(form)


def _raise_exception(message: str) -> None:
    raise TemplateRefuses(message)
