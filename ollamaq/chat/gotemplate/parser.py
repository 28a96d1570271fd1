"""Parses a template, as Go's ``text/template/parse`` does, with its words for what is wrong."""

from __future__ import annotations

import re
from collections.abc import Container

from ollamaq.chat.gotemplate import syntax
from ollamaq.chat.gotemplate.errors import TemplateError
from ollamaq.chat.gotemplate.lexer import Token, tokens
from ollamaq.chat.gotemplate.text import encode, quote, unquote, unquote_character

MAX_CHARACTERS = 1 << 18
MAX_DEPTH = 100
"""Of parentheses and blocks within each other."""
OPERANDS = ("bool", "character", "complex", ".", "field", "identifier", "number", "nil", "string", "variable", "(")
CONSTANTS = (syntax.Bool, syntax.Dot, syntax.Nil, syntax.Number, syntax.String)

_INTEGER = re.compile(
    r"([+-]?)(?:(0[xX])((?:_?[0-9a-fA-F])+)|(0[bB])((?:_?[01])+)|(0[oO]?)((?:_?[0-7])+)|([1-9](?:_?[0-9])*|0))"
)
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEX_FLOAT = re.compile(r"([+-]?)0[xX]([0-9a-fA-F_]*)(?:\.([0-9a-fA-F_]*))?[pP]([+-]?[0-9_]+)")


def parse(text: str, functions: Container[str]) -> dict[bytes, syntax.Nodes]:
    """The trees by name: the template itself is the one without a name, the others are defined in it.

    Raises:
        TemplateError: with the words of Go.
    """
    parser = _Parser(text, functions)
    if len(text) > MAX_CHARACTERS:
        parser.fail(f"it has more than {MAX_CHARACTERS:,} characters")
    try:
        parser.parse()
    except RecursionError:
        parser.fail("its parts are nested too deep")
    return parser.trees


class _Parser:
    def __init__(self, text: str, functions: Container[str]) -> None:
        self.text, self.functions = text, functions
        self.source = tokens(text)
        self.waiting: list[Token] = []  # tokens that were put back, the next one last
        self.latest = Token("EOF", 0, "")
        self.trees: dict[bytes, syntax.Nodes] = {}
        self.variables = ["$"]
        self.ranges = self.depth = 0
        self.action: Token | None = None  # the delimiter of the one that is read

    # --- tokens -----------------------------------------------------------------------------------------------------

    def next(self) -> Token:
        if self.waiting:
            return self.waiting.pop()
        self.latest = next(self.source, self.latest)
        return self.latest

    def peek(self) -> Token:
        token = self.next()
        self.waiting.append(token)
        return token

    def next_word(self) -> Token:
        while (token := self.next()).kind == "space":
            pass
        return token

    def peek_word(self) -> Token:
        token = self.next_word()
        self.waiting.append(token)
        return token

    def line(self, pos: int) -> int:
        return 1 + self.text.count("\n", 0, pos)

    def fail(self, said: str) -> None:
        pos = self.latest.pos
        line, column = self.line(pos), pos - self.text.rfind("\n", 0, pos)
        raise TemplateError(said, line, column, f"template: :{line}: {said}")

    def unexpected(self, token: Token, context: str) -> None:
        if token.kind == "error":
            extra = ""
            started = self.line(self.action.pos) if self.action else 0
            if started and started != self.line(token.pos):
                extra = f" in action started at :{started}"
                if token.text.endswith(" action"):
                    extra = extra.removeprefix(" in action")
            self.fail(token.text + extra)
        self.fail(f"unexpected {token} in {context}")

    def expect(self, context: str, *kinds: str) -> Token:
        token = self.next_word()
        if token.kind not in kinds:
            self.unexpected(token, context)
        return token

    # --- trees ------------------------------------------------------------------------------------------------------

    def parse(self) -> None:
        root = syntax.Nodes(self.peek().pos)
        while self.peek().kind != "EOF":
            if self.peek().kind == "{{":
                delimiter = self.next()
                word = self.next_word()
                if word.kind == "define":
                    self.definition()
                    continue
                self.waiting += (word, delimiter)
            node = self.text_or_action()
            if isinstance(node, syntax.End):
                self.fail(f"unexpected {node}")
            root.nodes.append(node)
        self.add(b"", root)

    def definition(self) -> None:
        name = self.name(self.expect("define clause", "string"))
        self.expect("define clause", "}}")
        self.add(name, self.inner("define clause"))

    def inner(self, context: str) -> syntax.Nodes:
        """The body of a definition, up to its end; it sees none of the variables around it."""
        outside = self.variables, self.ranges, self.action
        self.variables, self.ranges, self.action = ["$"], 0, None
        body, end = self.items()
        if end.keyword != "end":
            self.fail(f"unexpected {end} in {context}")
        self.variables, self.ranges, self.action = outside
        return body

    def add(self, name: bytes, body: syntax.Nodes) -> None:
        if name not in self.trees or _is_empty(self.trees[name]):
            self.trees[name] = body
        elif not _is_empty(body):
            self.fail(f"template: multiple definition of template {quote(name)}")

    def items(self) -> tuple[syntax.Nodes, syntax.End]:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail("its blocks are nested too deep")
        found = syntax.Nodes(self.peek_word().pos)
        while self.peek_word().kind != "EOF":
            node = self.text_or_action()
            if isinstance(node, syntax.End):
                self.depth -= 1
                return found, node
            found.nodes.append(node)
        self.fail("unexpected EOF")
        raise AssertionError

    def text_or_action(self) -> syntax.Node:
        token = self.next_word()
        if token.kind == "text":
            return syntax.Text(token.pos, encode(token.text))
        if token.kind != "{{":
            self.unexpected(token, "input")
        self.action = token
        node = self.read_action()
        self.action = None
        return node

    def read_action(self) -> syntax.Node:
        token = self.next_word()
        match token.kind:
            case "if" | "with" | "range":
                return self.branch(token.kind)
            case "else":
                peek = self.peek_word()
                if peek.kind not in ("if", "with"):
                    self.expect("else", "}}")
                return syntax.End(peek.pos, "else")
            case "end":
                return syntax.End(self.expect("end", "}}").pos, "end")
            case "break" | "continue":
                self.expect("{{" + token.kind + "}}", "}}")
                if not self.ranges:
                    self.fail("{{" + token.kind + "}} outside {{range}}")
                return syntax.Leave(token.pos, token.kind)
            case "template":
                return self.call()
            case "block":
                return self.block()
        self.waiting.append(token)
        return syntax.Action(token.pos, self.pipeline("command", "}}"))

    def branch(self, keyword: str) -> syntax.Branch:
        declared = len(self.variables)
        pipe = self.pipeline(keyword, "}}")
        self.ranges += keyword == "range"
        body, end = self.items()
        self.ranges -= keyword == "range"
        other = None
        if end.keyword == "else":
            if keyword != "range" and self.peek().kind == keyword:  # an "else if", whose end is ours
                self.next()
                self.depth += 1
                if self.depth > MAX_DEPTH:
                    self.fail("its blocks are nested too deep")
                other = syntax.Nodes(end.pos, [self.branch(keyword)])
                self.depth -= 1
            else:
                other, end = self.items()
                if end.keyword != "end":
                    self.fail(f"expected end; found {end}")
        del self.variables[declared:]
        return syntax.Branch(pipe.pos, keyword, pipe, body, other)

    def call(self) -> syntax.Call:
        token = self.next_word()
        name = self.template_name(token, "template clause")
        word = self.next_word()
        if word.kind == "}}":
            return syntax.Call(token.pos, name, None)
        self.waiting.append(word)
        return syntax.Call(token.pos, name, self.pipeline("template clause", "}}"))

    def block(self) -> syntax.Call:
        token = self.next_word()
        name = self.template_name(token, "block clause")
        pipe = self.pipeline("block clause", "}}")
        self.add(name, self.inner("block clause"))
        return syntax.Call(token.pos, name, pipe)

    def template_name(self, token: Token, context: str) -> bytes:
        if token.kind != "string":
            self.unexpected(token, context)
        return self.name(token)

    def name(self, token: Token) -> bytes:
        try:
            return unquote(token.text)
        except ValueError as error:
            self.fail(str(error))
            raise

    # --- pipelines --------------------------------------------------------------------------------------------------

    def pipeline(self, context: str, end: str) -> syntax.Pipe:
        pipe = syntax.Pipe(self.peek_word().pos)
        self.declarations(pipe, context)
        while (token := self.next_word()).kind != end:
            if token.kind not in OPERANDS:
                self.unexpected(token, context)
            self.waiting.append(token)
            pipe.commands.append(self.command())
        if not pipe.commands:
            self.fail(f"missing value for {context}")
        for stage, command in enumerate(pipe.commands[1:], start=2):
            if isinstance(command.args[0], CONSTANTS):
                self.fail(f"non executable command in pipeline stage {stage}")
        return pipe

    def declarations(self, pipe: syntax.Pipe, context: str) -> None:
        while self.peek_word().kind == "variable":
            variable = self.next()
            adjacent = self.peek()
            word = self.peek_word()  # takes a space before it away
            comma = word.kind == "char" and word.text == ","
            if word.kind not in ("=", ":=") and not comma:
                if adjacent.kind == "space":
                    self.waiting.append(adjacent)
                self.waiting.append(variable)
                return
            self.next_word()
            pipe.variables.append(syntax.Variable(variable.pos, [variable.text]))
            self.variables.append(variable.text)
            if not comma:
                pipe.assigns = word.kind == "="
                return
            if context != "range" or len(pipe.variables) > 1:
                self.fail(f"too many declarations in {context}")
            if self.peek_word().kind not in ("variable", "}}", ")"):
                self.fail("range can only initialize variables")

    def command(self) -> syntax.Command:
        command = syntax.Command(self.peek_word().pos)
        while True:
            self.peek_word()
            operand = self.operand()
            if operand is not None:
                command.args.append(operand)
            token = self.next()
            if token.kind == "space":
                continue
            if token.kind in ("}}", ")"):
                self.waiting.append(token)
            elif token.kind != "|":
                self.unexpected(token, "operand")
            break
        if not command.args:
            self.fail("empty command")
        return command

    def operand(self) -> syntax.Node | None:
        node = self.term()
        if node is None or self.peek().kind != "field":
            return node
        pos, names = self.peek().pos, []
        while self.peek().kind == "field":
            names.append(self.next().text[1:])
        if isinstance(node, syntax.Field | syntax.Variable):
            return type(node)(pos, node.names + names)
        if isinstance(node, CONSTANTS):
            self.fail(f"unexpected . after term {quote(encode(str(node)))}")
        return syntax.Chain(pos, node, names)

    def term(self) -> syntax.Node | None:
        token = self.next_word()
        pos, text = token.pos, token.text
        match token.kind:
            case "identifier":
                if text not in self.functions:
                    self.fail(f"function {quote(encode(text))} not defined")
                return syntax.Identifier(pos, text)
            case ".":
                return syntax.Dot(pos)
            case "nil":
                return syntax.Nil(pos)
            case "variable":
                if text not in self.variables:
                    self.fail(f"undefined variable {quote(encode(text))}")
                return syntax.Variable(pos, [text])
            case "field":
                return syntax.Field(pos, [text[1:]])
            case "bool":
                return syntax.Bool(pos, text == "true")
            case "character" | "complex" | "number":
                return self.number(token)
            case "(":
                self.depth += 1
                if self.depth > MAX_DEPTH:
                    self.fail("max expression depth exceeded")
                pipe = self.pipeline("parenthesized pipeline", ")")
                self.depth -= 1
                return pipe
            case "string":
                return syntax.String(pos, self.name(token), text)
        self.waiting.append(token)
        return None

    def number(self, token: Token) -> syntax.Number:
        text = token.text
        if token.kind == "character":
            try:
                return syntax.Number(token.pos, unquote_character(text), text)
            except ValueError as error:
                self.fail(str(error))
        if token.kind == "complex" or text.endswith("i"):
            self.fail(f"complex numbers are not supported: {text}")
        whole = _whole(text)
        if whole is not None and -(1 << 63) <= whole < 1 << 64:
            return syntax.Number(token.pos, whole if whole < 1 << 63 else None, text)
        number = _real(text)
        if number is None or number in (float("inf"), float("-inf")):
            self.fail(f"illegal number syntax: {quote(encode(text))}")
        if not any(letter in text for letter in ".eEpP"):
            self.fail(f"integer overflow: {quote(encode(text))}")
        return syntax.Number(token.pos, number, text)


def _whole(text: str) -> int | None:
    match = _INTEGER.fullmatch(text)
    if not match:
        return None
    sign, _, hexadecimal, _, binary, _, octal, decimal = match.groups()
    digits, base = (
        (hexadecimal, 16) if hexadecimal else (binary, 2) if binary else (octal, 8) if octal else (decimal, 10)
    )
    if len(digits) > 80:
        return 1 << 80
    value = int(digits.replace("_", ""), base)
    return -value if sign == "-" else value


def _real(text: str) -> float | None:
    if _FLOAT.fullmatch(text):
        return float(text)
    match = _HEX_FLOAT.fullmatch(text)
    if not match or not (match[2] or match[3]) or "_" in text:
        return None
    try:
        return float.fromhex(text)
    except OverflowError:
        return None


def _is_empty(tree: syntax.Nodes) -> bool:
    """Whether a tree has nothing but white space."""
    return all(isinstance(node, syntax.Text) and not node.text.decode().strip() for node in tree.nodes)
