"""Rules that need the model (``--model``): its context length, its tokens, its chat template and its cache."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ollamaq.chat.gotemplate import GoTemplate
from ollamaq.chat.gotemplate.errors import TemplateError
from ollamaq.chat.selection import claims_of_go, claims_of_jinja, jinja_wins
from ollamaq.modelfile.lint.rule import Context, Edit, Problem, at, at_value
from ollamaq.modelfile.parameters import read_parameter
from ollamaq.modelfile.versions import JINJA

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


def lost_capability(c: Context) -> Iterator[Problem]:
    """The model's chat template has tools or thinking, and the TEMPLATE has not. Ollama before 0.30 then refuses them;
    later ones mostly take the chat template of the GGUF in place of such a TEMPLATE. Take the TEMPLATE out, or give it
    what it lacks; `ollamaq template derive` writes one.
    """
    model, template = c.settings.model, c.last("TEMPLATE")
    if not model or not template or not template.value or c.all("RENDERER"):
        return
    try:
        go = GoTemplate.parse(template.value)
    except TemplateError:
        return
    if lacks := sorted(claims_of_jinja(model.chat_template) - claims_of_go(go)):
        taken = c.settings.ollama >= JINJA and jinja_wins(model.chat_template, go)
        then = "that one is used instead of this" if taken else "Ollama refuses what this lacks"
        yield at(template, f"the model's chat template has {' and '.join(lacks)}, and this TEMPLATE has not: {then}")


def context_beyond_memory(c: Context) -> Iterator[Problem]:
    """The cache of ``num_ctx`` tokens, with the weights if ``--model`` is a GGUF, is more than the server's memory, as
    ``--memory`` tells it: the model does not load, or hardly moves. Counted are keys and values in F16; a server with
    ``OLLAMA_KV_CACHE_TYPE=q8_0`` needs about half of that. Models whose layers see a window only are not judged.
    """
    model, memory = c.settings.model, c.settings.memory
    if not model or not model.cache_bytes or memory is None:
        return
    for command in c.parameters("num_ctx"):
        wanted = read_parameter(int, command.value)
        if not isinstance(wanted, int):
            continue
        needed = min(wanted, model.context_length or wanted) * model.cache_bytes + model.weights
        if needed > memory:
            yield at_value(
                command, f"num_ctx {wanted} needs {needed / 1e9:.1f} GB of memory, and there are {memory / 1e9:.1f} GB"
            )
