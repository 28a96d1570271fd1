"""What a translation knows and has written so far."""

from __future__ import annotations

import re

from ollamaq.chat.derive.go import (
    EMPTY,
    FALSE,
    TRUE,
    Declare,
    Expr,
    Nodes,
    Range,
    Set,
    both,
    call,
    either,
    negated,
    number,
    read_names,
    string,
    walk,
)
from ollamaq.chat.derive.values import (
    NONE,
    Choice,
    Concat,
    Gathered,
    Int,
    Json,
    Listing,
    ListOf,
    Pieces,
    Raised,
    Record,
    Rope,
    Static,
    Str,
    Told,
    Truth,
    Undefined,
    Uppered,
    Value,
    condition_of,
)
from ollamaq.errors import ModelRefused

CONTINUED = Expr("$continued")
"""Whether the prompt goes on with the last answer."""
MAX_STATEMENTS = 20_000
"""Gone through, those in macros and loops each time."""
ASSISTANT, TOOL = string("assistant"), string("tool")


class CannotDerive(ModelRefused):
    """A chat template says what cannot be said in Go, or not be translated yet."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(
            f"no Go TEMPLATE could be derived from the chat template: {why}",
            next_step="publish to Ollama 0.30 or newer, which renders the Jinja itself",
        )


class Learned(Exception):
    """The kind of an attribute, too late for what was written before."""


class State:
    """Variables, conditions known to hold, and the nodes that are being written."""

    def __init__(self) -> None:
        self.env: dict[str, Value] = {}
        self.out: Nodes = []
        self.known: list[Expr] = []
        self.cache: dict[str, Value] = {}
        self.used: set[str] = set()
        self.mutable: dict[str, tuple[str, str]] = {}
        """Attributes that change in loops: their variable, and the kind of its values; ``int:1`` is for one more."""
        self.learned: dict[str, str] = {}
        """Of attributes that are None before a loop, the kind of what the loop makes of them."""
        self.mutable_names: set[str] = set()
        self.poisoned: dict[str, str] = {}
        """Variables whose value got lost, and why; no harm unless they are read."""
        self.results = True
        """Whether there are messages with what tools answered."""
        self.sink = ""
        """The attribute that texts are added to, where that is all that is written."""
        self.ignored: set[str] = set()
        self.speakers: list[str] = []
        """Variables of loops over messages."""
        self.of_tools = 0
        """How many loops over tools, calls, or what they are made of, are gone through."""
        self.lengths: dict[str, Expr] = {}
        """Variables that count the characters of a text, and the text."""
        self.final: dict[str, Expr] = {}
        """By those variables, whether it is the last message of all."""
        self.endings: set[str] = {"$.Messages"}
        """Lists that end with the last message."""
        self.accumulator = ""
        """The attribute that the prompt is added up in, which is written instead."""
        self.gathering: set[str] = set()
        """Lists of which nothing is wanted but their elements in a row."""
        self.statements = 0
        self.tolerates: list[str] = []
        """Why some tools can't be rendered."""
        self.counted_at: Expr | None = None
        """The place that a loop over numbers is at."""
        self.defined_as: dict[str, str] = {}
        self.definitions: dict[str, Nodes] = {}
        """Macros that call themselves, by name."""
        self.spoken: dict[str, str] = {}
        """Variables that hold what a message says, and the variable of that message."""

    # --- variables --------------------------------------------------------------------------------------------------

    def fresh(self, name: str) -> str:
        base = "$" + (re.sub(r"\W", "_", name, flags=re.ASCII).strip("_") or "v")
        found, at = base, 1
        while found in self.used:
            at += 1
            found = f"{base}{at}"
        self.used.add(found)
        return found

    def declare(self, name: str, expr: Expr, exact: str = "") -> str:
        found = exact or self.fresh(name)
        self.used.add(found)
        self.out.append(Declare(found, expr))
        self._hear(found, expr)
        return found

    def put(self, name: str, expr: Expr) -> Set:
        self.known = [cond for cond in self.known if name not in cond.names()]
        self._hear(name, expr)
        return Set(name, expr)

    def _hear(self, name: str, expr: Expr) -> None:
        (self.endings.add if self.ends_alike(expr) else self.endings.discard)(name)
        if (speaker := self.speaker(expr)) and self.may_answer(speaker):
            self.spoken[name] = speaker

    def ends_alike(self, expr: Expr) -> bool:
        """Whether a list ends with the last message."""
        while expr.text == "slice" and len(expr.args) == 2:
            expr = expr.args[0]
        return not expr.args and expr.text in self.endings

    def ends_at(self, over: Expr, at: Expr) -> Expr:
        """Whether an element of a part of a list is the last of the whole."""
        if over.text == "slice" and len(over.args) == 3:
            whole, begin, _ = over.args
            over = whole if begin == number(0) else call("slice", whole, begin)
        return call("eq", call("len", call("slice", over, at)), number(1))

    def speaker(self, expr: Expr) -> str:
        """The message whose content this holds."""
        for name in [*self.speakers[::-1], "$last"]:
            if any(f"{name}.Content" in atom for atom in expr.atoms):
                return name
        return next((self.spoken[name] for name in sorted(expr.names()) if name in self.spoken), "")

    def may_answer(self, speaker: str) -> bool:
        """Whether a message may be an assistant's, for all that is known here."""
        answer = both(call("eq", Expr(f"{speaker}.Role"), ASSISTANT), negated(Expr(f"{speaker}.ToolCalls")))
        return self.simplified(answer) != FALSE

    def poison(self, name: str, why: str) -> None:
        self.poisoned.setdefault(name, why)

    # --- what is known ----------------------------------------------------------------------------------------------

    def assume(self, cond: Expr) -> None:
        if cond.text == "and" and cond.args:
            for part in cond.args:
                self.assume(part)
        elif cond.text == "not" and cond.args and cond.args[0].text == "or" and cond.args[0].args:
            for part in cond.args[0].args:
                self.assume(negated(part))
        elif cond != TRUE:
            self.known.append(cond)

    def simplified(self, cond: Expr) -> Expr:
        if cond in (TRUE, FALSE):
            return cond
        if cond in self.known:
            return TRUE
        if negated(cond) in self.known:
            return FALSE
        if cond.text in ("and", "or") and cond.args:
            parts, kept = [], self.known
            self.known = list(kept)
            for part in cond.args:
                part = self.simplified(part)
                parts.append(part)
                self.assume(part if cond.text == "and" else negated(part))
            self.known = kept
            return both(*parts) if cond.text == "and" else either(*parts)
        if cond.text == "not" and cond.args:
            return negated(self.simplified(cond.args[0]))
        if cond.text == "ne" and len(cond.args) == 2:
            return negated(self._equality(Expr("eq", cond.args), negated(cond)))
        if cond.text == "eq" and cond.args:
            return self._equality(cond, cond)
        if cond.text.startswith('"'):
            return FALSE if cond == EMPTY else TRUE
        for fact in self.known:
            if fact.text == "eq" and len(fact.args) == 2 and fact.args[0] == cond and fact.args[1].text[:1] == '"':
                return FALSE if fact.args[1] == EMPTY else TRUE
        return cond

    def _equality(self, cond: Expr, given: Expr) -> Expr:
        subject, *others = cond.args
        if not self.results and subject.text.endswith(".Role"):
            others = [other for other in others if other != TOOL]
            if not others:
                return FALSE
        if not all(other.text.startswith('"') and not other.args for other in others):
            return given
        if subject.text.startswith('"') and not subject.args:
            return TRUE if subject in others else FALSE
        for fact in self.known:
            if fact.text == "eq" and fact.args[0] == subject and all(o.text.startswith('"') for o in fact.args[1:]):
                within = [other in others for other in fact.args[1:]]
                if all(within):
                    return TRUE
                if not any(within):
                    return FALSE
            if fact.text == "ne" and fact.args[0] == subject and fact.args[1] in others:
                others.remove(fact.args[1])
            if fact.text == "not" and fact.args[0].text == "eq" and fact.args[0].args[0] == subject:
                others = [other for other in others if other not in fact.args[0].args[1:]]
        return Expr("eq", (subject, *others)) if others else FALSE

    # --- kinds ------------------------------------------------------------------------------------------------------

    def kind(self, value: Value) -> str:
        """The kind of variable that could hold it; empty if none could."""
        match value:
            case Static(value=bool()) | Truth():
                return "truth"
            case Static(value=str()) | Str() | Concat() | Rope() | Uppered():
                return "text"
            case Static(value=int()) | Int():
                return "int"
            case Listing(backwards=False):
                return f"{'map' if value.mapping else 'list'}:{value.kind}"
            case Record():
                return f"record:{value.kind}"
            case Json():
                return "json"
            case Pieces():
                return "texts"
            case ListOf() if all(self.kind(item) in ("text", "maybe") for item in value.items):
                return "texts"
            case Choice(yes=Str(expr=expr), no=Static(value=None | Undefined())) if expr == value.cond:
                return "maybe"
            case Choice():
                kind = self.kind(value.yes)
                return kind if kind == self.kind(value.no) else ""
        return ""

    def of_kind(self, kind: str, expr: Expr) -> Value:
        name, _, of = kind.partition(":")
        match name:
            case "text":
                return Str(expr)
            case "truth":
                return Truth(expr)
            case "int":
                return Int(((expr, 1),), -int(of or 0))
            case "list" | "map":
                return Listing(of, expr, name == "map")
            case "record":
                return Record(of, expr)
            case "json":
                return Json(expr)
            case "texts":
                return Pieces(expr)
        return Choice(expr, self.of_kind(of or "text", expr), NONE)

    @staticmethod
    def zero(kind: str) -> Expr:
        return {"truth": FALSE, "int": number(0)}.get(kind, EMPTY)

    def names_of(self, value: Value) -> set[str]:
        """The variables that a value is made of."""
        match value:
            case Str() | Record() | Listing() | Json() | Pieces():
                return value.expr.names()
            case Truth():
                return value.cond.names()
            case Int():
                return {name for expr, _ in value.terms for name in expr.names()}
            case Concat():
                return {name for part in value.parts for name in self.names_of(part)}
            case Choice():
                return value.cond.names() | self.names_of(value.yes) | self.names_of(value.no)
            case Rope() | Gathered():
                inner = {n.name for n in walk(value.nodes) if isinstance(n, Declare)}
                inner |= {v for n in walk(value.nodes) if isinstance(n, Range) for v in (n.index, n.item)}
                return read_names(value.nodes) - inner
            case Told():
                return self.names_of(value.last)
            case Uppered():
                return self.names_of(value.of)
        return set()


__all__ = ["CannotDerive", "Learned", "Raised", "State", "condition_of"]
