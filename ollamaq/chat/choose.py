"""The chat format of a model that comes without one, named by its user; and what to name is suggested."""

from __future__ import annotations

from dataclasses import replace

from gguf import GGUFValueType

from ollamaq.chat.compare import DIFFERS, compare
from ollamaq.chat.conversations import CONVERSATIONS, Conversation
from ollamaq.chat.forms import jinja_form
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.known import KnownFormat, suggested
from ollamaq.errors import UsageError
from ollamaq.gguf.model import Metadata, Model, Value
from ollamaq.tokenizers.special import adds_bos, special_texts

CHAT_TEMPLATE = "tokenizer.chat_template"
BOS = "{{- bos_token }}\n"
"""How the chat template of a known format begins, if its models are given a BOS."""
TEXT = {name: Conversation(messages) for name, messages in CONVERSATIONS.items()}


def in_format(
    model: Model, known: KnownFormat, own: ChatFormat | None, where: str, *, replace_own: bool = False
) -> Model:
    """The model with the chat template of the format that it was trained with.

    Its own stays where it gives the same prompts, as it may say more (of tools, or of thinking). A vocabulary that
    begins no text with a BOS gets none from the template, either.

    Raises:
        UsageError: its own gives other prompts, and is not to be replaced.
    """
    template = known.jinja if adds_bos(model.metadata) else known.jinja.removeprefix(BOS)
    if own is None or replace_own:
        value = Value(GGUFValueType.STRING, template)
        return replace(model, metadata=model.metadata | {CHAT_TEMPLATE: value})
    forms = jinja_form(where, own), jinja_form(known.name, ChatFormat(template, own.special_tokens))
    differing = [verdict for verdict in compare(*forms, TEXT) if verdict.verdict == DIFFERS]
    if not differing:
        return model
    first = differing[0]
    seen, meant = (text[max(0, first.offset - 20) : first.offset + 40] for text in (first.a, first.b))
    raise UsageError(
        f"{where} has a chat template of its own, whose prompts are not those of {known.name}: for"
        f" {first.conversation!r} it says {seen!r}, and {known.name} {meant!r}",
        next_step=f"leave --chat-format out; if it was trained with {known.name} all the same, add --replace-template",
    )


def hint(metadata: Metadata, where: str) -> str | None:
    """What to do about a model without any chat template; None where it has one, or is no model that answers."""
    if any(key.startswith(CHAT_TEMPLATE) or key.endswith(".pooling_type") for key in metadata):
        return None
    lacks = f"{where} has no chat template, so that servers guess how to prompt it"
    names = [known.name for known in suggested(special_texts(metadata))]
    if not names:
        return f"{lacks}; if it was trained to chat, name its format by --chat-format (`ollamaq template list`)"
    return f"{lacks}; its special tokens suggest {' or '.join(names)}: if that is right, add --chat-format {names[0]}"
