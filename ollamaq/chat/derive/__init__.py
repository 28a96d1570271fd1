"""A chat template in Jinja becomes a TEMPLATE in Go, by translation of its syntax tree.

An expression becomes a value: known, or an expression of Go's (`values`). A statement becomes nodes (`go`); a branch
that refuses a conversation falls away, as a Go template can't refuse. What Ollama hands a template is in `shapes`, what
it has no function for in `library`. Whether the two say the same is for a proof to show (`ollamaq.chat.prove`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ollamaq.chat.conversations import SUITE
from ollamaq.chat.derive.bos import without_leading
from ollamaq.chat.derive.go import Template, pruned, text_of, walk
from ollamaq.chat.derive.library import definitions
from ollamaq.chat.derive.state import CannotDerive, Learned
from ollamaq.chat.derive.tags import tagged
from ollamaq.chat.derive.translate import Translator
from ollamaq.chat.derive.trimming import expanded, shortened
from ollamaq.chat.gotemplate import GoTemplate, TemplateError, ollama_prompt
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.sandbox import Sandbox

__all__ = ["SOME_TOOLS", "CannotDerive", "Derived", "derive"]

SOME_TOOLS = "some tools"
"""Left out where rare ones could not be rendered: those are an error when they are given."""

MAX_LEARNED = 20
"""Attributes for which a translation is begun again."""
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Derived:
    """A Go TEMPLATE; ``without`` are the features that it leaves out, each with the reason."""

    template: str
    without: dict[str, str]


def derive(chat_format: ChatFormat, *, bos: str = "", without: Mapping[str, str] = NOTHING) -> Derived:
    """The Go TEMPLATE of a chat template, with tools and thinking where that can be said in Go.

    ``bos`` is the text of the token that the vocabulary begins every text with, if it does: prompts have it not.
    ``without`` are features to leave out, each with the reason.

    Raises:
        CannotDerive: not even texts can be.
    """
    without = dict(without)
    while True:
        try:
            template, odd = _translated(chat_format, bos, without)
            if odd:
                _check_plain_tool(template, odd)
            return Derived(template, without | ({SOME_TOOLS: odd} if odd else {}))
        except CannotDerive as error:
            left = next((feature for feature in ("tools", "thinking") if feature not in without), "")
            if not left:
                raise
            without[left] = error.why


def _check_plain_tool(template: str, why: str) -> None:
    """Tools are left out where even the plainest could not be rendered."""
    plain = SUITE["tools"]
    try:
        ollama_prompt(GoTemplate.parse(template), plain.messages, tools=plain.tools)
    except TemplateError as error:
        raise CannotDerive(why) from error


def _translated(chat_format: ChatFormat, bos: str, without: dict[str, str]) -> tuple[str, str]:
    """The template, and why some tools can't be rendered by it."""
    tree = Sandbox().parse(chat_format.template)
    learned: dict[str, str] = {}
    results = True
    while True:
        translator = Translator(
            chat_format.special_tokens,
            learned,
            tools="tools" not in without,
            results=results,
            thinking="thinking" not in without,
        )
        try:
            nodes = shortened(pruned(translator.template(tree)))
            break
        except Learned as error:
            if len(learned) > MAX_LEARNED:
                raise CannotDerive("it takes too many steps") from error
        except CannotDerive:
            if not results or "tools" not in without:
                raise
            results = False  # where none are called, none answer
    nodes = pruned(without_leading(nodes, bos))
    own = {name: shortened(pruned(body)) for name, body in translator.definitions.items()}
    trees = [nodes, *own.values()]
    called = {node.name for tree in trees for node in walk(tree) if isinstance(node, Template)}
    macros = "".join(
        f'{{{{- define "{name}" }}}}{text_of(expanded(body))}{{{{ end }}}}\n' for name, body in own.items()
    )
    template = definitions(called - own.keys()) + macros + text_of(expanded(nodes))
    try:
        return tagged(template, chat_format, without), "; ".join(dict.fromkeys(translator.tolerates))
    except TemplateError as error:
        raise CannotDerive(f"what became of it is no Go template: {error}") from error
