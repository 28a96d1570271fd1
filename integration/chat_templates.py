"""Models with the chat templates of others: tiny, random weights, on a real server."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import families
from gguf import GGUFValueType

from ollamaq.chat.choose import CHAT_TEMPLATE
from ollamaq.chat.forms import Form, asked, ollama_messages, server_form
from ollamaq.chat.guard import protect
from ollamaq.chat.jinja import ChatFormat
from ollamaq.checkpoint import open_checkpoint
from ollamaq.convert import convert
from ollamaq.gguf.model import Model, Value
from ollamaq.gguf.writer import write
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.render import create_request
from ollamaq.modelfile.shown import in_effect
from ollamaq.ollama.client import Client

CONTEXT = 1 << 15
"""Tokens, of which the tiny vocabulary needs many: what does not fit, the server leaves out."""
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def tiny_model(directory: Path, family: str = "codellama") -> Model:
    """A model of random weights, whose special tokens are ``<s>`` and ``</s>``."""
    families.write_checkpoint(family, directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (directory / name).read_text()
        (directory / name).write_text(text.replace("<|im_start|>", "<s>").replace("<|im_end|>", "</s>"))
    model = convert(open_checkpoint(directory), "f32")
    tokens = model.metadata["tokenizer.ggml.tokens"].value
    ids = {f"tokenizer.ggml.{of}_token_id": tokens.index(text) for of, text in (("bos", "<s>"), ("eos", "</s>"))}
    return replace(model, metadata=model.metadata | {key: Value(GGUFValueType.UINT32, id_) for key, id_ in ids.items()})


def with_template(model: Model, template: str) -> Model:
    """The model with another chat template, protected as `publish` does it."""
    return replace(model, metadata=model.metadata | {CHAT_TEMPLATE: Value(GGUFValueType.STRING, protect(template))})


@contextlib.contextmanager
def served(client: Client, name: str, model: Model, file: Path, **modelfile: Any) -> Iterator[None]:
    """The model on a server."""
    write(file, model)
    digest = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    client.push_blob(digest, file)
    client.create(
        create_request(
            Modelfile(from_="./model.gguf", parameters={"num_ctx": CONTEXT}, **modelfile), name, {"model.gguf": digest}
        )
    )
    try:
        yield
    finally:
        client.delete(name)


def chat_format(template: str) -> ChatFormat:
    return ChatFormat(template, TOKENS)


def form(client: Client, name: str) -> Form:
    """What a server makes of a model's conversations."""
    shown = client.show(name)
    return server_form(
        name,
        in_effect(shown),
        shown["capabilities"],
        lambda conversation: client.render(name, ollama_messages(conversation), **asked(conversation)),
    )
