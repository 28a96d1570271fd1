"""The forms in which a chat format comes: a Jinja chat template, a Go TEMPLATE, or what a server makes of a model."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import meta

from ollamaq.chat.carried import (
    Carrier,
    carried,
    carried_before,
    carried_to_jinja,
    carried_to_renderer,
    with_thinking,
)
from ollamaq.chat.conversations import Conversation
from ollamaq.chat.gotemplate import GoTemplate, ollama_prompt
from ollamaq.chat.jinja import REASONING, ChatFormat, TemplateRefuses
from ollamaq.chat.known import KnownFormat, find_format
from ollamaq.chat.sandbox import Sandbox
from ollamaq.checkpoint import Checkpoint, open_checkpoint
from ollamaq.convert import convert, native_outtype
from ollamaq.errors import ModelRefused, UsageError
from ollamaq.gguf.model import Metadata
from ollamaq.gguf.splits import join, read_parts
from ollamaq.modelfile.parser import decode, parse, read_bytes
from ollamaq.modelfile.shown import RENDERER, in_effect
from ollamaq.modelfile.source import is_gguf, path_of
from ollamaq.tokenizers.spec import TokenizerSpec
from ollamaq.tokenizers.special import adds_bos, special_tokens

KNOWN = "format:"
"""Before the name of a known chat format."""
MARK = "CONTINUE_FINAL_MESSAGE_TAG\u2003"
"""What transformers puts after an answer that is to be gone on with, to find where it ends; here with a space at its
end that no template writes, where transformers has one that some do."""
MAX_TOKENS = 1 << 31
GENERATED = ("messages", "add_generation_prompt")


@dataclass(frozen=True)
class Form:
    """A chat format from ``origin``; ``language`` is ``Jinja`` or ``Go``.

    ``render`` may raise `TemplateRefuses` (it has no form for the conversation) or an `OllamaqError`. ``bos`` is the
    text of the token that it may begin with, which Ollama adds by itself; a Go TEMPLATE has no ``chat_format``.
    ``carrier`` tells what Ollama makes of a conversation before the form is given it; ``native``: its chat template is
    rendered by llama.cpp. One that ``thinks`` does so where nobody says whether to.
    """

    origin: str
    language: str
    text: str
    variables: tuple[str, ...]
    render: Callable[[Conversation], str]
    bos: str = ""
    chat_format: ChatFormat | None = None
    carrier: Carrier | None = None
    native: bool = False
    thinks: bool = False


def open_form(source: str, server: str = "") -> Form:
    """What a user points at: a directory, a GGUF, a ``.jinja`` or ``.gotmpl`` file, a Modelfile, or a server's model.

    ``format:NAME`` is the TEMPLATE of a known chat format, ``format:NAME.jinja`` its chat template.

    Raises:
        UsageError: there is nothing, or no template in it, or no such format.
        ModelRefused: it cannot be read, or its template cannot be parsed.
        ServerError: the server has no such model.
    """
    if known := known_in(source):
        return jinja_form(source, ChatFormat(known.jinja)) if source.endswith(".jinja") else go_form(source, known.go)
    path = path_of(source)
    if path is None:
        return _of_server(source, server)
    if path.is_dir():
        checkpoint = open_checkpoint(path)
        chat_format = ChatFormat.of(checkpoint)
        if chat_format is None:
            raise _without(source, "give a directory with chat_template.jinja")
        return jinja_form(source, chat_format, bos=_begins_with_bos(checkpoint))
    if is_gguf(path):
        metadata = join(read_parts(path).values()).metadata
        chat_format = gguf_format(metadata)
        if chat_format is None:
            raise _without(source, "give one with tokenizer.chat_template")
        return jinja_form(source, chat_format, bos=adds_bos(metadata))
    text, _ = decode(read_bytes(path))
    if path.suffix in (".jinja", ".j2"):
        return jinja_form(source, ChatFormat(text))
    if path.suffix in (".gotmpl", ".tmpl"):
        return go_form(source, text)
    templates = [command.value for command in parse(text).commands if command.keyword == "TEMPLATE"]
    if not templates:
        raise _without(source, "give a Modelfile with a TEMPLATE, or what its FROM names")
    return go_form(source, templates[-1])


def known_in(source: str) -> KnownFormat | None:
    """The chat format of ``format:NAME`` and ``format:NAME.jinja``.

    Raises:
        UsageError: there is no such format.
    """
    return find_format(source.removeprefix(KNOWN).removesuffix(".jinja")) if source.startswith(KNOWN) else None


def go_form(origin: str, text: str) -> Form:
    """That of a Go TEMPLATE, rendered as Ollama 0.34 does."""
    template = GoTemplate.parse(text)

    def render(conversation: Conversation) -> str:
        messages = ollama_messages(conversation)
        return ollama_prompt(template, messages, tools=conversation.tools, think=conversation.think)

    shown = tuple(sorted(name for name in template.variables if not name.startswith("$")))
    return Form(origin, "Go", text, shown, render, carrier=carried)


def ollama_messages(conversation: Conversation) -> list[dict[str, Any]]:
    """A conversation's messages as Ollama's API has them."""
    return [_ollama_message(message) for message in conversation.messages]


def _ollama_message(message: dict[str, Any]) -> dict[str, Any]:
    thought = next((message[name] for name in REASONING if message.get(name) is not None), None)
    return message if thought is None else {**message, "thinking": thought}


def _begins_with_bos(checkpoint: Checkpoint) -> bool:
    """Whether a server will begin texts with a BOS."""
    try:
        return adds_bos(convert(checkpoint, native_outtype(checkpoint)).metadata)
    except ModelRefused:
        return special_tokens(checkpoint, TokenizerSpec(), MAX_TOKENS)[1].get("bos", False)


def jinja_form(origin: str, chat_format: ChatFormat, *, bos: bool = True) -> Form:
    """That of a chat template, rendered as transformers does; ``bos``: whether the vocabulary begins texts with one."""

    def render(conversation: Conversation) -> str:
        given: dict[str, Any] = {"tools": conversation.tools}
        if conversation.think is not None:
            given["enable_thinking"] = conversation.think
        messages = conversation.messages
        if not _begun(messages):
            return chat_format.render(messages, **given)
        marked = [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + MARK}]
        return _cut(chat_format.render(marked, add_generation_prompt=False, **given))

    names = meta.find_undeclared_variables(Sandbox().parse(chat_format.template))
    shown = tuple(sorted(names - set(GENERATED)))
    token = chat_format.special_tokens.get("bos_token", "") if bos else ""
    return Form(origin, "Jinja", chat_format.template, shown, render, token, chat_format)


def _begun(messages: list[dict[str, Any]]) -> bool:
    """Whether a conversation ends with an answer, which is to be gone on with."""
    last = messages[-1] if messages else {}
    content = last.get("content")
    said = isinstance(content, str) and bool(content) and not last.get("tool_calls")
    return said and last.get("role") == "assistant"


def _cut(rendered: str) -> str:
    """The prompt up to the mark, and without the space before it if the template took away the one that ends it.

    Raises:
        TemplateRefuses: the template leaves the answer out.
    """
    before, mark, after = rendered.rpartition(MARK.strip())
    if not mark:
        raise TemplateRefuses("the last answer does not appear in the prompt")
    return before if after.startswith(MARK[-1]) else before.rstrip()


def gguf_format(metadata: Metadata) -> ChatFormat | None:
    """The chat format that a GGUF carries."""
    template = metadata.get("tokenizer.chat_template")
    if template is None or not isinstance(template.value, str):
        return None
    tokens = metadata["tokenizer.ggml.tokens"].value if "tokenizer.ggml.tokens" in metadata else ()
    special = {}
    for name in ("bos", "eos", "unknown", "padding"):
        entry = metadata.get(f"tokenizer.ggml.{name}_token_id")
        if entry is not None and isinstance(entry.value, int) and 0 <= entry.value < len(tokens):
            special[{"unknown": "unk", "padding": "pad"}.get(name, name) + "_token"] = str(tokens[entry.value])
    return ChatFormat(template.value, special)


def _of_server(name: str, server: str) -> Form:
    from ollamaq.ollama.client import Client
    from ollamaq.ollama.host import parse_host

    url = parse_host(server)

    def render(conversation: Conversation) -> str:
        with Client(url) as client:
            return client.render(name, ollama_messages(conversation), **asked(conversation))

    with Client(url) as client:
        shown = client.show(name)
    return server_form(f"{name} at {url}", in_effect(shown), shown.get("capabilities") or (), render)


def asked(conversation: Conversation) -> dict[str, Any]:
    """What a request says beside its messages."""
    given = {"tools": conversation.tools, "think": conversation.think}
    return {key: value for key, value in given.items() if value is not None}


def server_form(
    origin: str,
    template: str,
    capabilities: Collection[str],
    render: Callable[[Conversation], str],
    *,
    old: bool = False,
) -> Form:
    """That of a model on a server, by what is `in_effect` there and what the server says the model can do.

    ``old`` is for servers before 0.30.
    """
    native = "{%" in template or "{#" in template
    carrier: Carrier = carried_to_jinja if native else carried_before if old else carried
    if template.startswith(RENDERER):
        form, carrier = Form(origin, "Go", template, (), render), carried_to_renderer
    else:
        form = jinja_form(origin, ChatFormat(template)) if native else go_form(origin, template)
    thinks = "thinking" in capabilities
    carrier = with_thinking(carrier) if thinks else carrier
    return replace(form, render=render, carrier=carrier, native=native, thinks=thinks)


def _without(source: str, next_step: str) -> UsageError:
    return UsageError(f"{source} has no chat template", next_step=next_step)
