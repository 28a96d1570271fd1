"""A word hidden in a long text: whether a model still finds it, and whether the server handed it all of the text."""

from __future__ import annotations

from dataclasses import replace

from ollamaq.errors import ServerError
from ollamaq.servers.target import Target
from ollamaq.smoke.answers import CannotCheck
from ollamaq.smoke.cases import Case

HAY = (
    "The harbour was quiet that morning, and the boats lay still.",
    "A baker opened his shop and set the loaves in the window.",
    "Rain had fallen in the night, so the stones were dark.",
    "Two children counted the gulls on the roof of the market.",
    "Nobody spoke of the storm that had passed a week before.",
)
NEEDLE = "The password of the lighthouse is {word}."
QUESTION = "What is the password of the lighthouse? Answer with that one word."
WORD = "marigold"
SAMPLE = 40
"""Sentences by which the length of one in tokens is measured."""
REPLY = 64
"""Tokens left for the answer and for the marks of the chat format."""
LEAST = 0.8
"""The share of the wanted length that the server must have counted: less was cut off."""


def hidden(target: Target, name: str, case: Case) -> Case:
    """The case with the text it asks about, as long as it says in this model's own tokens.

    The context is the model's own, unless the case's options say otherwise: a server that cuts the text fails it.

    Raises:
        CannotCheck: the server does not count the tokens of a prompt.
        ServerError: it cuts the prompt, or refuses it.
    """
    assert case.needle is not None
    wanted, depth = case.needle["tokens"], case.needle.get("depth", 0.5)
    options = dict(case.options) | {"num_predict": REPLY}
    one = options | {"num_predict": 1}
    sample = target.chat(name, _messages(f"A first story. {_text(SAMPLE)}"), one).prompt_tokens
    empty = target.chat(name, _messages("Nothing."), one).prompt_tokens
    each = (sample - empty) / SAMPLE
    if each <= 0:
        raise CannotCheck(f"{target.engine} {target.version} does not count the tokens of a prompt")
    sentences = max(1, int((wanted - empty) / each))
    before = int(sentences * depth)
    text = f"{wanted} words. {_text(before)} {NEEDLE.format(word=WORD)} {_text(sentences - before, before)}"
    messages = _messages(text)
    seen = target.chat(name, messages, one).prompt_tokens
    if 1 < seen < LEAST * wanted:  # 1 where it still knew all of it
        raise ServerError(
            f"the server handed the model {seen} tokens of {wanted}: its context is shorter",
            next_step="set options.num_ctx in the case, or num_ctx in the Modelfile",
        )
    return replace(case, messages=messages, options=options, checks={"contains": WORD, **case.checks})


def _text(sentences: int, start: int = 0) -> str:
    return " ".join(HAY[i % len(HAY)] for i in range(start, start + sentences))


def _messages(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": f"{text}\n\n{QUESTION}"},)
