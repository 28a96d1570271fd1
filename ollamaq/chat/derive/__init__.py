"""A chat template in Jinja becomes a TEMPLATE in Go, by translation of its syntax tree.

An expression becomes a value: known, or an expression of Go's (`values`). A statement becomes nodes (`go`); a branch
that refuses a conversation falls away, as a Go template can't refuse. What Ollama hands a template is in `shapes`, what
it has no function for in `library`. Whether the two say the same is for a proof to show (`ollamaq.chat.prove`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ollamaq.chat.derive.bos import without_leading
from ollamaq.chat.derive.go import Template, pruned, text_of, walk
from ollamaq.chat.derive.library import definitions
from ollamaq.chat.derive.state import CannotDerive
from ollamaq.chat.derive.tags import tagged
from ollamaq.chat.derive.translate import Translator
from ollamaq.chat.derive.trimming import expanded, shortened
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.sandbox import Sandbox

__all__ = ["CannotDerive", "Derived", "derive"]


@dataclass(frozen=True)
class Derived:
    """A Go TEMPLATE; ``without`` are the features that it leaves out, each with the reason."""

    template: str
    without: dict[str, str]


def derive(chat_format: ChatFormat, *, bos: str = "") -> Derived:
    """The Go TEMPLATE of a chat template, with tools and thinking where that can be said in Go.

    ``bos`` is the text of the token that the vocabulary begins every text with, if it does: prompts have it not.

    Raises:
        CannotDerive: not even texts can be.
    """
    without: dict[str, str] = {}
    while True:
        try:
            return Derived(_translated(chat_format, bos, without), without)
        except CannotDerive as error:
            left = next((feature for feature in ("tools", "thinking") if feature not in without), "")
            if not left:
                raise
            without[left] = error.why


def _translated(chat_format: ChatFormat, bos: str, without: dict[str, str]) -> str:
    translator = Translator(
        chat_format.special_tokens, tools="tools" not in without, thinking="thinking" not in without
    )
    nodes = shortened(pruned(translator.template(Sandbox().parse(chat_format.template))))
    nodes = pruned(without_leading(nodes, bos))
    called = {node.name for node in walk(nodes) if isinstance(node, Template)}
    return tagged(definitions(called) + text_of(expanded(nodes)), chat_format, without)
