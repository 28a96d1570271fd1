"""White space taken off the ends of texts: by a template where the rest is only printed, by loops where it is not."""

from __future__ import annotations

from collections import Counter

from ollamaq.chat.derive.go import (
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
    both,
    call,
    number,
    read_names,
    rewritten,
    string,
    text_of,
    walk,
)

SPACES = [c for c in map(chr, range(0x3001)) if c.isspace()]
"""What Python's ``strip`` takes away."""
NAMES = {(True, True): "trim", (True, False): "trim left", (False, True): "trim right"}


def shortened(nodes: Nodes) -> Nodes:
    """With templates called for texts that are only printed."""
    changed = {node.name for node in walk(nodes) if isinstance(node, Set)}
    uses: Counter[str] = Counter()
    prints: Counter[str] = Counter()
    declared: dict[str, list[Expr]] = {}
    strips: dict[str, list[Strip]] = {}
    for node in walk(nodes):
        if isinstance(node, Declare):
            declared.setdefault(node.name, []).append(node.expr)
        if isinstance(node, Strip):
            strips.setdefault(node.name, []).append(node)
        elif isinstance(node, Print) and not node.expr.args:
            prints[node.expr.text] += 1
        uses.update(read_names([node], nested=False))
    calls: dict[str, Template] = {}
    for name, (strip, *more) in strips.items():
        simple = not more and strip.characters is None and name not in changed and len(declared.get(name, ())) == 1
        if simple and uses[name] == prints[name] + 1 and not declared[name][0].names() & changed:
            calls[name] = Template(NAMES[strip.left, strip.right], declared[name][0])

    def one(node: Node) -> Nodes:
        if isinstance(node, Strip | Declare) and node.name in calls:
            return []
        if isinstance(node, Print) and node.expr.text in calls and not node.expr.args:
            return [calls[node.expr.text]]
        return [node]

    return rewritten(nodes, one)


def expanded(nodes: Nodes) -> Nodes:
    """With loops where white space is taken off."""
    return rewritten(nodes, lambda node: _loops(node) if isinstance(node, Strip) else [node])


def _loops(strip: Strip) -> Nodes:
    sides = [(strip.left, False), (strip.right, True)]
    return [
        Range(strip.counter, "", call("len", Expr(strip.name)), _step(strip.name, of_end, strip.characters))
        for wanted, of_end in sides
        if wanted
    ]


def _step(name: str, of_end: bool, characters: str | None) -> Nodes:
    """One character taken off, or the end of that."""
    subject = Expr(name)
    by_size: dict[int, list[str]] = {}
    for character in SPACES if characters is None else sorted(set(characters)):
        by_size.setdefault(len(character.encode()), []).append(character)
    nodes: Nodes = [Break()]
    for size, wanted in sorted(by_size.items(), reverse=True):
        cut = call("len", call("slice", subject, number(size)))
        piece = call("slice", subject, cut) if of_end else call("slice", subject, number(0), number(size))
        rest = call("slice", subject, number(0), cut) if of_end else call("slice", subject, number(size))
        enough = subject if size == 1 else call("ge", call("len", subject), number(size))
        nodes = [If(both(enough, call("eq", piece, *map(string, wanted))), [Set(name, rest)], nodes)]
    return nodes


def _template(left: bool, right: bool) -> str:
    text = Expr("$text")
    nodes: Nodes = [Declare(text.text, Expr(".")), Strip(text.text, "$_", left, right, None), Print(text)]
    return "\n" + text_of(expanded(nodes))


TEMPLATES = {name: _template(left, right) for (left, right), name in NAMES.items()}
