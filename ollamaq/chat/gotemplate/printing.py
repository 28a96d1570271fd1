"""Prints values as Go's package ``fmt`` does: ``%v %+v %#v %T %s %q %x %X %d %b %o %O %c %U %t %e %f %g``."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from ollamaq.chat.gotemplate.text import decode, encode, is_print, quote, runes
from ollamaq.chat.gotemplate.types import STRING, Value, indirect

MAX_NUMBER = 1_000_000
"""Go takes no larger width or precision."""
MAX_BYTES = 4 << 20
"""Of what is printed at once."""
LARGEST_RUNE = 0x10FFFF


class CannotPrint(Exception):
    """What Go prints can't be told, such as an address in memory."""


def sprint(values: list[Value | None]) -> bytes:
    """``fmt.Sprint``: a space between two that are not strings."""
    printer, previous = Printer(), True
    for at, value in enumerate(values):
        is_string = value is not None and value.type.kind == "string"
        if at and not is_string and not previous:
            printer.out += b" "
        printer.value(value, "v")
        previous = is_string
    return bytes(printer.out)


def sprintln(values: list[Value | None]) -> bytes:
    """``fmt.Sprintln``."""
    printer = Printer()
    for at, value in enumerate(values):
        printer.out += b" " if at else b""
        printer.value(value, "v")
    return bytes(printer.out + b"\n")


@dataclass
class Flags:
    sharp: bool = False
    zero: bool = False
    plus: bool = False
    minus: bool = False
    space: bool = False
    go_syntax: bool = False
    fields: bool = False
    width: int | None = None
    precision: int | None = None


@dataclass
class Printer:
    """What was printed is in ``out``."""

    out: bytearray = field(default_factory=bytearray)
    flags: Flags = field(default_factory=Flags)
    erring: bool = False

    # --- values -----------------------------------------------------------------------------------------------------

    def value(self, value: Value | None, verb: str) -> None:
        """One argument."""
        self.bound()
        if value is None:
            self.pad(b"<nil>") if verb in "Tv" else self.bad(verb, None)
        elif verb == "T":
            self.text(value.type.name.encode())
        elif verb == "p":
            self.pointer(value, verb)
        elif not self.methods(value, verb):
            self.plain(value, verb, 0)

    def methods(self, value: Value, verb: str) -> bool:
        if self.erring:
            return False
        if verb == "w":
            self.bad(verb, value)
            return True
        if self.flags.go_syntax or verb not in "vsxXq" or value.type.string is None:
            return False
        self.string(Value(STRING, value.type.string(value.data)), verb)
        return True

    def plain(self, value: Value | None, verb: str, depth: int) -> None:
        if depth and value is not None and self.methods(value, verb):
            return
        if value is None:
            self.out += b"<nil>" if verb == "v" else b""
            if verb != "v":
                self.bad(verb, None)
            return
        match value.type.kind:
            case "bool":
                self.pad(b"true" if value.data else b"false") if verb in "tv" else self.bad(verb, value)
            case "int" | "uint8":
                self.integer(value, verb)
            case "float64":
                self.float(value, verb)
            case "string":
                self.string(value, verb)
            case "map":
                self.map(value, verb, depth)
            case "struct":
                self.struct(value, verb, depth)
            case "interface":
                if value.data is not None:
                    self.plain(value.data, verb, depth + 1)
                else:
                    self.out += b"interface {}(nil)" if self.flags.go_syntax else b"<nil>"
            case "slice":
                self.slice(value, verb, depth)
            case "ptr" if not depth and value.data is not None:
                self.out += b"&"
                self.plain(Value(value.type.element, value.data), verb, depth + 1)
            case _:
                self.pointer(value, verb)

    def opened(self, value: Value, plain: bytes) -> bool:
        """Begin what has parts; False if it is a nil in Go's syntax, which has none."""
        if not self.flags.go_syntax:
            self.out += plain
            return True
        self.out += value.type.name.encode()
        self.out += b"{" if value.data is not None else b"(nil)"
        return value.data is not None

    def between(self, at: int) -> None:
        if at:
            self.out += b", " if self.flags.go_syntax else b" "

    def map(self, value: Value, verb: str, depth: int) -> None:
        if not self.opened(value, b"map["):
            return
        for at, (key, item) in enumerate(sorted((value.data or {}).items(), key=lambda pair: pair[0])):
            self.between(at)
            self.plain(Value(STRING, key), verb, depth + 1)
            self.out += b":"
            self.plain(Value(value.type.element, item), verb, depth + 1)
        self.out += b"}" if self.flags.go_syntax else b"]"

    def struct(self, value: Value, verb: str, depth: int) -> None:
        self.opened(value, b"{")
        for at, part in enumerate(value.type.fields):
            self.between(at)
            if self.flags.fields or self.flags.go_syntax:
                self.out += part.name.encode() + b":"
            item = Value(part.type, value.data[part.name])
            self.plain(item.data if item.type.kind == "interface" and item.data is not None else item, verb, depth + 1)
        self.out += b"}"

    def slice(self, value: Value, verb: str, depth: int) -> None:
        is_bytes = value.type.element.kind == "uint8"
        if is_bytes and verb in "sqxX":
            self.string(Value(STRING, bytes(value.data or b"")), verb)
            return
        if not self.opened(value, b"["):
            return
        for at, item in enumerate(value.data or []):
            self.between(at)
            self.plain(Value(value.type.element, item), verb, depth + 1)
        self.out += b"}" if self.flags.go_syntax else b"]"

    def pointer(self, value: Value, verb: str) -> None:
        if value.type.kind not in ("ptr", "map", "slice", "func"):
            self.bad(verb, value)
        elif value.data is None and verb == "v":
            name = f"({value.type.name})(nil)".encode()
            if self.flags.go_syntax:
                self.out += name
            else:
                self.pad(b"<nil>")
        else:
            raise CannotPrint("the template prints an address in memory, which is another each time")

    def bad(self, verb: str, value: Value | None) -> None:
        self.erring = True
        self.out += b"%!" + encode(verb) + b"("
        if value is None:
            self.out += b"<nil>"
        else:
            self.out += value.type.name.encode() + b"="
            self.plain(value, "v", 0)
        self.out += b")"
        self.erring = False

    # --- text and numbers -------------------------------------------------------------------------------------------

    def bound(self) -> None:
        if len(self.out) > MAX_BYTES:
            raise CannotPrint(f"it makes more than {MAX_BYTES:,} bytes")

    def pad(self, data: bytes, *, zero: bool | None = None) -> None:
        self.bound()
        lacking = (self.flags.width or 0) - len(runes(data)) if self.flags.width else 0
        if lacking <= 0:
            self.out += data
        elif self.flags.minus:
            self.out += data + b" " * lacking
        else:
            self.out += (b"0" if (self.flags.zero if zero is None else zero) else b" ") * lacking + data

    def text(self, data: bytes) -> None:
        if self.flags.precision is not None:
            data = b"".join(runes(data)[: self.flags.precision])
        self.pad(data)

    def string(self, value: Value, verb: str) -> None:
        data, flags = value.data, self.flags
        if verb == "s" or (verb == "v" and not flags.go_syntax):
            self.text(data)
        elif verb in "qv":
            if flags.precision is not None:
                data = b"".join(runes(data)[: flags.precision])
            if flags.sharp and _can_backquote(data):
                self.pad(b"`" + data + b"`")
            else:
                self.pad(quote(data, ascii_only=flags.plus).encode())
        elif verb in "xX":
            self.hexadecimal(data, verb)
        else:
            self.bad(verb, value)

    def hexadecimal(self, data: bytes, verb: str) -> None:
        flags = self.flags
        data = data[: flags.precision] if flags.precision is not None else data
        prefix = f"0{verb}" if flags.sharp else ""
        pieces = [f"{byte:02{verb}}" for byte in data]
        made = prefix + f" {prefix}".join(pieces) if flags.space else prefix + "".join(pieces)
        self.pad((made if data else "").encode())

    def integer(self, value: Value, verb: str) -> None:
        number, flags = value.data, self.flags
        base = {"v": 10, "d": 10, "b": 2, "o": 8, "O": 8, "x": 16, "X": 16}.get(verb)
        if base is not None:
            sharp = flags.sharp
            if verb == "v" and flags.go_syntax and value.type.kind == "uint8":
                base, flags.sharp = 16, True
            self.in_base(number, base, verb)
            flags.sharp = sharp
        elif verb in "cqU":
            code = number if 0 <= number <= LARGEST_RUNE and not 0xD800 <= number < 0xE000 else 0xFFFD
            if verb == "c":
                self.pad(chr(code).encode())
            elif verb == "q":
                self.pad(quote(chr(code).encode(), "'", flags.plus).encode())
            else:
                unsigned = number % (1 << 64)
                shown = f"U+{unsigned:0{max(4, flags.precision or 0)}X}"
                if flags.sharp and unsigned <= LARGEST_RUNE and code == unsigned and is_print(chr(code)):
                    shown += f" '{chr(code)}'"
                self.pad(shown.encode(), zero=False)
        else:
            self.bad(verb, value)

    def in_base(self, number: int, base: int, verb: str) -> None:
        flags = self.flags
        least = 0
        if flags.precision is not None:
            least = flags.precision
            if not least and not number:
                self.out += b" " * (flags.width or 0)
                return
        elif flags.zero and not flags.minus and flags.width:
            least = flags.width - (number < 0 or flags.plus or flags.space)
        digits = format(abs(number), {10: "d", 2: "b", 8: "o", 16: "X" if verb == "X" else "x"}[base])
        digits = digits.rjust(least, "0")
        if flags.sharp:
            if base == 8:
                digits = digits if digits.startswith("0") else "0" + digits
            else:
                digits = {2: "0b", 16: "0X" if verb == "X" else "0x"}.get(base, "") + digits
        if verb == "O":
            digits = "0o" + digits
        sign = "-" if number < 0 else "+" if flags.plus else " " if flags.space else ""
        self.pad((sign + digits).encode(), zero=False)

    def float(self, value: Value, verb: str) -> None:
        number, flags = value.data, self.flags
        if verb not in "vgGeEfF":
            if verb in "bxX":
                raise CannotPrint(f"%{verb} of a float64 is not supported")
            self.bad(verb, value)
            return
        if flags.sharp:
            raise CannotPrint(f"%#{verb} of a float64 is not supported")
        form = {"v": "g", "F": "f"}.get(verb, verb)
        precision = flags.precision if flags.precision is not None else None if form in "gG" else 6
        shown = _shortest(abs(number), form) if precision is None else _rounded(abs(number), form, precision)
        negative = str(number).startswith("-")
        sign = "-" if negative else "+" if flags.plus else " " if flags.space else ""
        if shown in ("inf", "nan"):
            named = {"inf": "+Inf", "nan": "NaN"}[shown]
            self.pad(("-Inf" if negative else sign + named.lstrip("+") if sign else named).encode(), zero=False)
        elif sign and flags.zero and not flags.minus and flags.width and flags.width > len(shown) + 1:
            self.out += sign.encode() + shown.rjust(flags.width - 1, "0").encode()
        else:
            self.pad((sign + shown).encode())


def _shortest(number: float, form: str) -> str:
    """The fewest digits that tell the number."""
    if number != number or number == float("inf"):
        return str(number)
    _, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    power = len(text) - 1 + exponent if number else 0
    if -4 <= power < 6:
        return format(Decimal(repr(number)).normalize(), "f")
    letter = "E" if form == "G" else "e"
    return text[0] + ("." + text[1:] if text[1:] else "") + f"{letter}{power:+03d}"


def _rounded(number: float, form: str, precision: int) -> str:
    return f"{number:.{min(precision, 1100)}{form}}"


def _can_backquote(data: bytes) -> bool:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return not any(character in "`\x7f\ufeff" or (character < " " and character != "\t") for character in text)


# --- formats --------------------------------------------------------------------------------------------------------


def sprintf(form: bytes, values: list[Value | None]) -> bytes:
    """``fmt.Sprintf``."""
    return bytes(_Format(form, values).run())


class _Format:
    def __init__(self, form: bytes, values: list[Value | None]) -> None:
        self.form, self.values = form, values
        self.at = self.argument = 0
        self.reordered = self.good = False
        self.after_index = False
        self.printer = Printer()

    def run(self) -> bytearray:
        form, out = self.form, self.printer.out
        while self.at < len(form):
            found = form.find(b"%", self.at)
            found = len(form) if found < 0 else found
            out += form[self.at : found]
            self.at = found + 1
            if found < len(form):
                self.verb()
        if not self.reordered and self.argument < len(self.values):
            self.extra()
        return out

    def verb(self) -> None:
        printer, out = self.printer, self.printer.out
        flags = printer.flags = Flags()
        self.good, self.after_index = True, False
        while self.peek() in (b"#", b"0", b"+", b"-", b" "):
            name = {b"#": "sharp", b"0": "zero", b"+": "plus", b"-": "minus", b" ": "space"}[self.peek()]
            setattr(flags, name, True)
            self.at += 1
        self.index()
        if self.peek() == b"*":
            self.at += 1
            flags.width = self.from_argument()
            if flags.width is None:
                out += b"%!(BADWIDTH)"
            elif flags.width < 0:
                flags.width, flags.minus, flags.zero = -flags.width, True, False
            self.after_index = False
        else:
            flags.width = self.digits()
            if self.after_index and flags.width is not None:
                self.good = False
        if self.peek() == b"." and self.at + 1 < len(self.form):
            self.at += 1
            if self.after_index:
                self.good = False
            self.index()
            if self.peek() == b"*":
                self.at += 1
                flags.precision = self.from_argument()
                if flags.precision is not None and flags.precision < 0:
                    flags.precision = None
                if flags.precision is None:
                    out += b"%!(BADPREC)"
                self.after_index = False
            else:
                flags.precision = self.digits() or 0
        if not self.after_index:
            self.index()
        if self.at >= len(self.form):
            out += b"%!(NOVERB)"
            return
        piece = runes(self.form[self.at : self.at + 4])[0]
        self.at += len(piece)
        self.one(decode(piece))

    def one(self, verb: str) -> None:
        printer, flags = self.printer, self.printer.flags
        if verb == "%":
            printer.out += b"%"
        elif not self.good:
            printer.out += b"%!" + verb.encode() + b"(BADINDEX)"
        elif self.argument >= len(self.values):
            printer.out += b"%!" + verb.encode() + b"(MISSING)"
        else:
            if verb in "wv":
                flags.go_syntax, flags.sharp, flags.fields, flags.plus = flags.sharp, False, flags.plus, False
            printer.value(self.values[self.argument], verb)
            self.argument += 1

    def extra(self) -> None:
        printer = self.printer
        printer.flags = Flags()
        printer.out += b"%!(EXTRA "
        for at, value in enumerate(self.values[self.argument :]):
            printer.out += b", " if at else b""
            if value is None:
                printer.out += b"<nil>"
            else:
                printer.out += value.type.name.encode() + b"="
                printer.value(value, "v")
        printer.out += b")"

    def peek(self) -> bytes:
        return self.form[self.at : self.at + 1]

    def digits(self) -> int | None:
        """A number at this place; too large a one takes the rest of the format with it."""
        start, number = self.at, None
        while self.peek().isdigit():
            if (number or 0) > MAX_NUMBER:
                self.at = len(self.form)
                return None
            number = (number or 0) * 10 + int(self.peek())
            self.at += 1
        return number if self.at > start else None

    def from_argument(self) -> int | None:
        value = self.values[self.argument] if self.argument < len(self.values) else None
        if self.argument < len(self.values):
            self.argument += 1
        if value is None or value.type.kind not in ("int", "uint8") or abs(value.data) > MAX_NUMBER:
            return None
        number: int = value.data
        return number

    def index(self) -> None:
        """An explicit ``[n]``."""
        self.after_index = False
        if self.peek() != b"[":
            return
        self.reordered = True
        close = self.form.find(b"]", self.at)
        inside = self.form[self.at + 1 : close] if close >= 0 else b""
        if close < 0:
            self.at, self.good = self.at + 1, False
            return
        self.at = close + 1
        self.after_index = inside.isdigit() and int(inside[:8]) >= 0
        if self.after_index and len(inside) < 8 and 1 <= int(inside) <= len(self.values):
            self.argument = int(inside) - 1
        else:
            self.good = False


def printable(value: Value | None) -> Value | None:
    """What a template prints of a value: not a pointer, if there is something behind it."""
    if value is not None and value.type.kind == "ptr":
        return indirect(value)[0]
    return value
