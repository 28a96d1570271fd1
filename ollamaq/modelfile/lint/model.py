"""Rules that need the model (``--model``): its context length and its tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ollamaq.modelfile.lint.rule import Context, Edit, Problem, at, at_value
from ollamaq.modelfile.parameters import read_parameter

_TOKEN = re.compile(r"<\|[^|<>\s{}]{1,40}\|>|<｜[^｜<>\s{}]{1,40}｜>|<(?:start|end)_of_turn>|<\|turn>|<turn\|>")


def context_too_long(c: Context) -> Iterator[Problem]:
    """``num_ctx`` is more than the model was trained for. Ollama cuts it down to that, with a line in its log."""
    model = c.settings.model
    for command in c.parameters("num_ctx"):
        wanted = read_parameter(int, command.value)
        if model and model.context_length and isinstance(wanted, int) and wanted > model.context_length:
            yield at_value(command, f"num_ctx is {wanted}, and the model's context has {model.context_length} tokens")


def model_stop_missing(c: Context) -> Iterator[Problem]:
    """The model's files name tokens that end a turn, and none of them is a stop here. The fix adds the first one."""
    model = c.settings.model
    if not model or not model.ends or c.all("RENDERER"):
        return
    if not any(command.value and command.value in end for command in c.parameters("stop") for end in model.ends):
        last = c.document.commands[-1]
        fix = Edit(last.end, last.end, f"\nPARAMETER stop {model.ends[0]}")
        yield at(c.all("FROM")[0], f"the model ends its turns with {model.ends[0]}, and no stop does", fix)


def unknown_token(c: Context) -> Iterator[Problem]:
    """The TEMPLATE, or a stop, spells a special token that the model's vocabulary does not have: the tokenizer takes it
    apart into pieces that mean nothing to the model. The template is that of another model.
    """
    model = c.settings.model
    if not model or not model.special:
        return
    for command in [*c.all("TEMPLATE"), *c.parameters("stop")]:
        for token in dict.fromkeys(_TOKEN.findall(c.written(command))):
            if token not in model.special:
                start = command.value_start + c.written(command).index(token)
                yield Problem(f"the model has no token {token}", start, start + len(token))
