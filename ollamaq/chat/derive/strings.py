"""Python's text methods, where Go's templates have but lengths, slices and comparisons."""

from __future__ import annotations

from collections.abc import Callable
from string import Formatter

from ollamaq.chat.derive.go import (
    EMPTY,
    FALSE,
    TRUE,
    Break,
    Declare,
    Expr,
    If,
    Node,
    Nodes,
    Print,
    Range,
    Set,
    Strip,
    Template,
    Text,
    both,
    call,
    either,
    number,
    string,
    walk,
)
from ollamaq.chat.derive.state import CannotDerive, State
from ollamaq.chat.derive.values import (
    SEPARATOR,
    Choice,
    Concat,
    Int,
    Json,
    Listing,
    ListOf,
    Lowered,
    Pieces,
    Raised,
    Record,
    Rope,
    Split,
    Static,
    Str,
    Truth,
    Unknown,
    Uppered,
    Value,
    mapped,
    truth_value,
)

SAFE = {
    "strip",
    "lstrip",
    "rstrip",
    "startswith",
    "endswith",
    "replace",
    "lower",
    "upper",
    "title",
    "capitalize",
    "split",
}
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LONG = ("uary", "ruary", "ch", "il", "", "e", "y", "ust", "tember", "ober", "ember", "ember")


class Strings(State):
    """Texts made of texts; loops that work them out are written first."""

    def sum_of(self, value: Int) -> Expr:
        raise NotImplementedError

    # --- expressions ------------------------------------------------------------------------------------------------

    def pure(self, value: Value) -> Expr | None:
        """The expression that a value is, if one is enough."""
        match value:
            case Static(value=bool()):
                return TRUE if value.value else FALSE
            case Static(value=str()):
                return string(value.value)
            case Static(value=int()):
                return number(value.value)
            case Str() | Json() | Record() | Pieces():
                return value.expr
            case ListOf() if self.kind(value) == "texts":
                return self.pure(self.packed(value))
            case Choice(cond=cond) if self.kind(value) == "maybe":
                return cond
            case Listing(backwards=False):
                return value.expr
            case Truth():
                return value.cond
            case Int():
                return self.sum_of(value)
            case Concat():
                parts = [self.pure(part) for part in value.parts]
                return None if None in parts else call("print", *self.ended([part for part in parts if part]))
        return None

    def ended(self, parts: list[Expr]) -> list[Expr]:
        """Texts in a row, of which those after an answer fall away where the prompt goes on with it."""
        for at, part in list(enumerate(parts[:-1]))[::-1]:
            if self.speaker(part):
                return [*parts[: at + 1], *self.ending(part, parts[at + 1 :])]
        return parts

    def ending(self, expr: Expr, after: list[Expr]) -> list[Expr]:
        raise NotImplementedError

    def packed(self, value: ListOf) -> Value:
        """A list of texts as one."""
        items = [
            Str(item.cond) if isinstance(item, Choice) and self.kind(item) == "maybe" else item for item in value.items
        ]
        text = self.concat(tuple(part for item in items for part in (item, Static(SEPARATOR))))
        return text if isinstance(text, Unknown) else Pieces(self.text(text))

    def text(self, value: Value) -> Expr:
        """The expression of a text."""
        expr = self.pure(value)
        if expr is not None:
            return expr
        match value:
            case Rope():
                return self.captured(value.nodes)
            case Concat():
                return call("print", *self.ended([self.text(part) for part in value.parts]))
            case Choice():
                name = self.declare("text", EMPTY)
                kept, results = self.out, []
                for side in (value.yes, value.no):
                    self.out = []
                    expr = self.text(side)
                    self.out.append(self.put(name, expr))
                    results.append(self.out)
                self.out = kept
                self.out.append(If(value.cond, *results))
                return Expr(name)
            case Uppered():
                return self.text(self.uppered(value))
            case Unknown():
                raise CannotDerive(value.why)
        raise CannotDerive(f"the text of a {type(value).__name__.lower()}")

    def captured(self, nodes: Nodes) -> Expr:
        """A variable with the text that nodes would print."""
        name = self.declare("text", EMPTY)

        def taken(nodes: Nodes) -> Nodes:
            return [kept for node in nodes for kept in one(node)]

        def one(node: Node) -> Nodes:
            match node:
                case Text():
                    return [self.put(name, call("print", Expr(name), string(node.text)))]
                case Print():
                    return [self.put(name, call("print", Expr(name), node.expr))]
                case If():
                    return [If(node.cond, taken(node.body), taken(node.other))]
                case Range():
                    return [Range(node.index, node.item, node.over, taken(node.body))]
                case Template():
                    raise CannotDerive("what another template writes can't be worked on")
            return [node]

        self.out.extend(taken(nodes))
        return Expr(name)

    def concat(self, parts: tuple[Value, ...]) -> Value:
        """Texts in a row, constants joined."""
        flat: list[Value] = []
        for part in parts:
            for piece in part.parts if isinstance(part, Concat) else (part,):
                if isinstance(piece, Unknown):
                    return piece
                if isinstance(piece, Static):
                    text = str(piece.value)
                    if flat and isinstance(flat[-1], Static):
                        flat[-1] = Static(str(flat[-1].value) + text)
                    elif text:
                        flat.append(Static(text))
                elif isinstance(piece, Str) and piece.expr.text == "print" and piece.expr.args:
                    flat.extend(Str(arg) for arg in piece.expr.args)
                elif isinstance(piece, Json):
                    flat.append(Rope([Template("str", piece.expr)]))
                elif isinstance(piece, Int):
                    flat.append(Str(self.sum_of(piece)))
                elif isinstance(piece, Str | Rope | Choice | Uppered):
                    flat.append(piece)
                else:
                    return Unknown(f"the text of a {type(piece).__name__.lower()}")
        if not flat:
            return Static("")
        return flat[0] if len(flat) == 1 else Concat(tuple(flat))

    # --- methods ----------------------------------------------------------------------------------------------------

    def string_method(self, of: Value, name: str, args: list[Value]) -> Value:
        if isinstance(of, Unknown):
            return of
        if name == "format" and isinstance(of, Static):
            return self.formatted(str(of.value), args)
        if not all(isinstance(arg, Static) for arg in args):
            return Unknown(f".{name}() with an argument that is not known")
        given = [arg.value for arg in args if isinstance(arg, Static)]
        if isinstance(of, Choice):
            return mapped(of, lambda one: self.string_method(one, name, args))
        if isinstance(of, Static):
            return self.constant(of.value, name, given)
        if name in ("lower", "casefold"):
            return of if isinstance(of, Str) and of.expr.text.endswith(".Role") else Lowered(of)
        if name == "upper":
            return Uppered(of)
        if name in ("strip", "lstrip", "rstrip"):
            return self.stripped(of, name != "rstrip", name != "lstrip", given[0] if given else None)
        if name in ("startswith", "endswith"):
            options = given[0] if isinstance(given[0], tuple) else (given[0],)
            expr = self.text(of)
            check = self.begins if name == "startswith" else self.ends
            return truth_value(self.simplified(either(*(check(expr, option) for option in options))))
        if name == "split" and given[1:] in ([], [1], [-1]) and given[0] and not _bordered(str(given[0])):
            return Split(self.text(of), str(given[0]), given[1:] == [1])
        if name == "replace" and len(given) == 2 and given[0] and not _bordered(given[0]):
            return self.replaced(of, given[0], given[1])
        return Unknown(f".{name}()")

    def constant(self, text: str, name: str, given: list[object]) -> Value:
        if name not in SAFE:
            return Unknown(f".{name}()")
        made = getattr(text, name)(*given)
        if isinstance(made, list):
            return ListOf(tuple(Static(piece) for piece in made))
        return Static(made)

    def formatted(self, text: str, args: list[Value]) -> Value:
        """Python's ``str.format``, of fields that say no more than which argument."""
        parts: list[Value] = []
        places = iter(range(len(args)))
        try:
            for literal, field, how, conversion in Formatter().parse(text):
                parts.append(Static(literal))
                if how or conversion or (field and not field.isdigit()):
                    return Unknown(".format()")
                if field is not None:
                    parts.append(args[int(field) if field else next(places)])
        except (ValueError, IndexError, StopIteration) as error:
            raise Raised from error
        return self.concat(tuple(parts))

    def remembered(self, key: str, expr: Expr, make: Callable[[], Value]) -> Value:
        """What was worked out before, where it still is the same."""
        if expr.names() & self.mutable_names:
            return make()
        key = f"{key} {expr}"
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]

    @staticmethod
    def begins(expr: Expr, start: str) -> Expr:
        size = number(len(start.encode()))
        enough = call("ge", call("len", expr), size)
        return both(enough, call("eq", call("slice", expr, number(0), size), string(start))) if start else TRUE

    @staticmethod
    def ends(expr: Expr, end: str) -> Expr:
        size = number(len(end.encode()))
        enough = call("ge", call("len", expr), size)
        tail = call("slice", expr, call("len", call("slice", expr, size)))
        return both(enough, call("eq", tail, string(end))) if end else TRUE

    @staticmethod
    def beginning(expr: Expr, count: Expr) -> Expr:
        """So many characters, which is what a precision counts."""
        if count.text.isdigit():
            return call("printf", string(f"%.{count.text}s"), expr)
        return call("printf", string("%.*s"), count, expr)

    def variable_of(self, expr: Expr, name: str) -> Expr:
        """The expression, or a variable that has its value if it is more than a name."""
        return expr if not expr.args else Expr(self.declare(name, expr))

    def contains(self, of: Value, part: str) -> Expr:
        if not part:
            return TRUE
        expr = self.text(of)

        def make() -> Value:
            subject = self.variable_of(expr, "text")
            name = self.declare("has", FALSE)
            self.out.append(self.search(subject, part, lambda at, rest: [Set(name, TRUE), Break()]))
            return truth_value(Expr(name))

        value = self.remembered(f"has {part!r}", expr, make)
        return self.simplified(value.cond) if isinstance(value, Truth) else TRUE

    def lowered(self, of: Lowered) -> Value:
        """A text with the letters of ASCII made small."""
        return self.recased("lower", of.of, "AZ", lambda byte: call("printf", string("%*s" + " " * 32), byte, EMPTY))

    def uppered(self, of: Uppered) -> Value:
        """A text with the letters of ASCII made capitals."""
        less = lambda byte: call("slice", call("printf", string("%*s"), byte, EMPTY), number(32))  # noqa: E731
        return self.recased("upper", of.of, "az", less)

    def recased(self, word: str, of: Value, letters: str, as_long: Callable[[Expr], Expr]) -> Value:
        """A text with letters from one to another in the other case; ``as_long`` makes a text of so many bytes."""
        expr = self.text(of)

        def make() -> Value:
            subject = self.variable_of(expr, "text")
            name, done = self.declare(word, EMPTY), self.declare("done", number(0))
            at, byte = self.fresh("at"), self.fresh("byte")
            other = call("printf", string("%c"), call("len", as_long(Expr(byte))))
            past = call("len", call("printf", string("%*sx"), Expr(at), EMPTY))
            kept = call("slice", subject, Expr(done), Expr(at))
            body: Nodes = [self.put(name, call("print", Expr(name), kept, other)), self.put(done, past)]
            first, last = (number(ord(letter)) for letter in letters)
            meant = both(call("ge", Expr(byte), first), call("le", Expr(byte), last))
            loop: Nodes = [Declare(byte, call("index", subject, Expr(at))), If(meant, body)]
            self.out.append(Range(at, "", call("len", subject), loop))
            return Str(call("print", Expr(name), call("slice", subject, Expr(done))))

        return self.remembered(word, expr, make)

    def search(self, subject: Expr, part: str, found: Callable[[Expr, Expr], Nodes]) -> Node:
        """A loop that does something where the text has a part."""
        at = self.fresh("at")
        rest = call("slice", subject, Expr(at))
        return Range(at, "", call("len", subject), [If(self.begins(rest, part), found(Expr(at), rest))])

    def piece(self, of: Split, at: int) -> Value:
        """The first, the last, or the second of the pieces."""
        size = number(len(of.separator.encode()))

        def make() -> Value:
            subject = self.variable_of(of.expr, "text")
            name = self.declare({0: "before", -1: "after"}.get(at, "rest"), subject)
            found: dict[int, Callable[[Expr, Expr], Nodes]] = {
                0: lambda at, rest: [self.put(name, call("slice", subject, number(0), at)), Break()],
                -1: lambda at, rest: [self.put(name, call("slice", rest, size))],
                1: lambda at, rest: [self.put(name, call("slice", rest, size)), Break()],
            }
            self.out.append(self.search(subject, of.separator, found[at]))
            return Str(Expr(name))

        whole = of.once and at != 0
        at = 1 if whole and at == -1 else at
        if at not in (0, 1, -1):
            return Unknown(f"piece {at} of a text")
        value = self.remembered(f"piece {at} {of.separator!r}", of.expr, make)
        assert isinstance(value, Str)
        return self.piece(Split(value.expr, of.separator), 0) if at == 1 and not whole else value

    def stripped(self, of: Value, left: bool, right: bool, characters: str | None) -> Value:
        if left and (cut := _cut_end(of, 0, characters)):
            of, left = cut, False
        if right and (cut := _cut_end(of, -1, characters)):
            of, right = cut, False
        if not left and not right:
            return of
        expr = self.text(of)

        def make() -> Value:
            name = self.declare("text", expr)
            self.out.append(Strip(name, self.fresh("_"), left, right, characters))
            return Str(Expr(name))

        return self.remembered(f"strip {left} {right} {characters!r}", expr, make)

    def replaced(self, of: Value, old: str, new: str) -> Value:
        expr = self.text(of)

        def make() -> Value:
            subject = self.variable_of(expr, "text")
            name, done = self.declare("replaced", EMPTY), self.declare("done", number(0))

            def found(at: Expr, rest: Expr) -> Nodes:
                past = call("len", call("printf", string("%*s" + "x" * len(old.encode())), at, EMPTY))
                kept = call("slice", subject, Expr(done), at)
                return [self.put(name, call("print", Expr(name), kept, string(new))), self.put(done, past)]

            self.out.append(self.search(subject, old, found))
            return Str(call("print", Expr(name), call("slice", subject, Expr(done))))

        return self.remembered(f"replace {old!r} {new!r}", expr, make)

    # --- dates ------------------------------------------------------------------------------------------------------

    def date(self, form: str) -> Value:
        """Today in a format of ``strftime``; Ollama's ``currentDate`` is 2006-01-02."""
        today = Expr("currentDate")
        if form == "%Y-%m-%d":
            return Str(today)
        day = Expr(self.declare("today", call("print", today)))
        pieces: list[Value] = []
        at = 0
        while at < len(form):
            step = 3 if form[at : at + 2] == "%-" else 2 if form[at] == "%" else 1
            pieces.append(self._directive(day, form[at : at + step]) if step > 1 else Static(form[at]))
            at += step
        return self.concat(tuple(pieces))

    def _directive(self, day: Expr, directive: str) -> Value:

        def part(start: int, end: int) -> Expr:
            return call("slice", day, number(start), number(end))

        match directive:
            case "%Y":
                return Str(part(0, 4))
            case "%m":
                return Str(part(5, 7))
            case "%d":
                return Str(part(8, 10))
            case "%-d":
                return Choice(call("eq", part(8, 9), string("0")), Str(part(9, 10)), Str(part(8, 10)))
            case "%b" | "%B":
                names = [m + (rest if directive == "%B" else "") for m, rest in zip(MONTHS, LONG, strict=True)]
                chosen: Value = Static(names[-1])
                for at, month in enumerate(names[:-1][::-1]):
                    number_of = f"{11 - at:02d}"
                    chosen = Choice(call("eq", part(5, 7), string(number_of)), Static(month), chosen)
                return chosen
            case "%%":
                return Static("%")
        return Unknown(f"the date as {directive}")


def _cut_end(value: Value, at: int, characters: str | None) -> Value | None:
    """With the first or last part stripped, if that is known and something of it remains."""
    match value:
        case Static(value=str()):
            kept = value.value.lstrip(characters) if at == 0 else value.value.rstrip(characters)
            return Static(kept) if kept else None
        case Concat(parts=parts):
            cut = _cut_end(parts[at], at, characters)
            return None if cut is None else Concat((cut, *parts[1:]) if at == 0 else (*parts[:-1], cut))
        case Rope(nodes=[*nodes]) if nodes and isinstance(end := nodes[at], Text):
            cut = _cut_end(Static(end.text), at, characters)
            if isinstance(cut, Static):
                text = Text(cut.value)
                return Rope([text, *nodes[1:]] if at == 0 else [*nodes[:-1], text])
    return None


def _bordered(text: str) -> bool:
    """Whether occurrences could overlap."""
    return any(text[:size] == text[-size:] for size in range(1, len(text)))


def woven(value: Value) -> bool:
    """Whether other templates write parts of a text."""
    if isinstance(value, Choice):
        return woven(value.yes) or woven(value.no)
    if isinstance(value, Concat):
        return any(woven(part) for part in value.parts)
    return isinstance(value, Rope) and any(isinstance(node, Template) for node in walk(value.nodes))
