"""Rules on the chat format: TEMPLATE, SYSTEM, RENDERER, PARSER and the stops."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ollamaq.chat.gotemplate import GoTemplate
from ollamaq.chat.gotemplate.errors import TemplateError
from ollamaq.chat.known import known_formats, shown
from ollamaq.modelfile.lint.formats import QUESTION, almost, format_of, prompt
from ollamaq.modelfile.lint.rule import Context, Edit, Problem, at, at_value
from ollamaq.modelfile.render import quoted
from ollamaq.modelfile.source import Kind
from ollamaq.modelfile.words import did_you_mean

ENDS = {
    "<|im_start|>": "<|im_end|>",
    "<|start_header_id|>": "<|eot_id|>",
    "<|header_start|>": "<|eot|>",
    "<start_of_turn>": "<end_of_turn>",
    "<|turn>": "<turn|>",
    "<|START_OF_TURN_TOKEN|>": "<|END_OF_TURN_TOKEN|>",
    "<|start_of_role|>": "<|end_of_text|>",
    "<|assistant|>": "<|end|>",
    "<｜Assistant｜>": "<｜end▁of▁sentence｜>",
    "[INST]": "</s>",
}
"""What begins a turn in the chat formats in use, and what ends one there."""

BOS = ("<|begin_of_text|>", "<｜begin▁of▁sentence｜>", "<|startoftext|>", "<BOS_TOKEN>", "<bos>", "<s>")

STRUCTURE = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "```")
"""What a good answer contains, and its reader looks for."""

# Registered in model/renderers and model/parsers of Ollama 0.34.2.
RENDERERS = frozenset(
    [
        "cogito",
        "cohere",
        "deepseek3.1",
        "functiongemma",
        "gemma4",
        "gemma4-large",
        "gemma4-small",
        "glimmer",
        "glm-4.7",
        "glm-ocr",
        "laguna",
        "lfm2",
        "lfm2-thinking",
        "nemotron-3-nano",
        "nemotron-3.5-nano",
        "olmo3",
        "olmo3-32b-think",
        "olmo3-think",
        "olmo3.1",
        "ornith",
        "poolside-v1",
        "qwen3-coder",
        "qwen3-vl-instruct",
        "qwen3-vl-thinking",
        "qwen3.5",
        "qwen3.8",
    ]
)
PARSERS = frozenset(
    [
        "cogito",
        "cohere",
        "deepseek3",
        "functiongemma",
        "gemma4",
        "gemma4-no-thinking",
        "glimmer",
        "glm-4.7",
        "glm-ocr",
        "harmony",
        "laguna",
        "lfm2",
        "lfm2-thinking",
        "ministral",
        "nemotron-3-nano",
        "nemotron-3.5-nano",
        "olmo3",
        "olmo3-think",
        "ornith",
        "passthrough",
        "poolside-v1",
        "qwen3",
        "qwen3-coder",
        "qwen3-thinking",
        "qwen3-vl-instruct",
        "qwen3-vl-thinking",
        "qwen3.5",
    ]
)

_VARIABLE = re.compile(r"(?<![\w)])(?:\$\w*)?\.(\w+)")
_ACTION = re.compile(r"\{\{(?:(?!\{\{).)*?\}\}", re.DOTALL)
_JINJA = re.compile(
    r"\{%|\{#|\{\{-?\s*(?:bos_token|eos_token|messages?\b|raise_exception|add_generation_prompt|system_message)"
)


def variables(template: str) -> set[str]:
    """The names behind a dot in a Go template's actions."""
    return {found for action in _ACTION.findall(template) for found in _VARIABLE.findall(action)}


def empty_stop(c: Context) -> Iterator[Problem]:
    """Every text contains the empty one: servers that look for it end every answer at once, others ignore it. Tools
    write it when a model's end-of-turn token is not set. The fix removes it.
    """
    for command in c.parameters("stop"):
        if not command.value:
            yield at(command, "this stop is empty", c.removed(command))


def harmful_stop(c: Context) -> Iterator[Problem]:
    """A stop cuts the answer where it first appears. Blanks, single characters and the marks of thinking and tool calls
    are in good answers too: those end early, or their tool calls are never seen. So are some tokens of chat formats
    whose answers have several parts: with ``<|end|>`` gpt-oss stops when it has thought.
    """
    template = c.last("TEMPLATE")
    within = {
        token
        for known in known_formats().values()
        if template and known.inside and all(token in template.value for token in known.inside)
        for token in known.inside
    }
    for command in c.parameters("stop"):
        if command.value in STRUCTURE or command.value in within:
            yield at_value(command, f"{command.value!r} belongs into answers: this stop cuts them off")
        elif command.value and len(command.value.strip()) <= 1:
            yield at_value(command, f"{command.value!r} is in almost any answer: this stop cuts them off")


def missing_stop(c: Context) -> Iterator[Problem]:
    """The TEMPLATE ends turns with a mark at which nothing stops: the model goes on, asks and answers itself. Whether
    the GGUF names that mark as an end cannot be seen from here; the stop is right in any case. Modelfiles that build on
    a model by name inherit its stops. The fix adds the stop behind the TEMPLATE.
    """
    template = c.last("TEMPLATE")
    if not template or c.all("RENDERER") or any(source.kind is Kind.NAME for _, source in c.sources):
        return
    stops = [command.value for command in c.parameters("stop") if command.value]
    wanted: list[tuple[str, ...]] = [
        (end,) for begin, end in ENDS.items() if begin in template.value and end in template.value
    ]
    if not wanted and (known := format_of(template.value)):
        wanted = [known.stops]
    for ends in wanted:
        if not any(stop in end for stop in stops for end in ends):
            fix = Edit(template.end, template.end, f"\nPARAMETER stop {quoted(ends[0])}")
            yield at(template, f"the turns of this TEMPLATE end with {shown(ends[:1])}, and no stop does", fix)


def almost_known_format(c: Context) -> Iterator[Problem]:
    """The TEMPLATE's prompts are those of a known chat format but for a little, such as a line break that the model
    always saw in training. If the format is meant, `ollamaq template show format:NAME` prints its TEMPLATE; if the
    model was trained with another one, this is right as it is.
    """
    template = c.last("TEMPLATE")
    if not template or c.all("RENDERER"):
        return
    if found := almost(template.value):
        known, said, meant = found
        yield at(
            template, f"this TEMPLATE is almost that of {known.name}: it says {said!r} where {known.name} has {meant!r}"
        )


def bos_in_template(c: Context) -> Iterator[Problem]:
    """The server puts the beginning-of-sequence token in front of the prompt by itself; one in the TEMPLATE doubles it,
    and answers get worse. Ollama takes away a leading ``<bos>``, no other. With ``--model`` the rule knows whether the
    tokenizer adds one, and the fix removes it.
    """
    model = c.settings.model
    if model and not model.adds_bos:
        return
    for command in c.all("TEMPLATE"):
        leading = command.value.startswith("<bos>")
        for token in BOS:
            written = c.written(command)
            place = written.find(token, written.find(token) + 1 if token == "<bos>" and leading else 0)
            first = prompt(command.value, QUESTION)
            if place < 0 or (first is not None and token not in first):  # Llama 2's stands between turns
                continue
            start = command.value_start + place
            fix = Edit(start, start + len(token), "") if model else None
            yield Problem(
                f"the server adds {token} by itself where the tokenizer has one: this doubles it",
                start,
                start + len(token),
                fix,
            )


def ignored_system(c: Context) -> Iterator[Problem]:
    """The TEMPLATE uses neither ``.System`` nor ``.Messages``, so that the system message never reaches the model."""
    template, system = c.last("TEMPLATE"), c.last("SYSTEM")
    if template and system and system.value and not variables(template.value) & {"System", "Messages"}:
        yield at(system, "the TEMPLATE has neither .System nor .Messages: this SYSTEM is never seen by the model")


def template_without_prompt(c: Context) -> Iterator[Problem]:
    """The TEMPLATE uses neither ``.Prompt`` nor ``.Messages``: what a user writes never reaches the model."""
    template = c.last("TEMPLATE")
    if template and template.value and not variables(template.value) & {"Prompt", "Messages"}:
        yield at(template, "the TEMPLATE has neither .Prompt nor .Messages: the model never sees what users write")


def jinja_template(c: Context) -> Iterator[Problem]:
    """TEMPLATE takes a Go template. The chat template of a Hugging Face model is written in Jinja; it belongs into the
    GGUF, where Ollama 0.30 and newer find it.
    """
    for command in c.all("TEMPLATE"):
        if found := _JINJA.search(command.value):
            yield at(command, f"{found[0]} is Jinja: TEMPLATE takes a Go template")


def broken_template(c: Context) -> Iterator[Problem]:
    """The TEMPLATE is no valid Go template, or calls a function that Ollama does not have: `ollama create` stops with
    ``template error``.
    """
    for command in c.all("TEMPLATE"):
        if not _JINJA.search(command.value):
            try:
                GoTemplate.parse(command.value)
            except TemplateError as error:
                yield at(command, str(error))


def incomplete_tools(c: Context) -> Iterator[Problem]:
    """Ollama offers tools for a TEMPLATE that has ``.Tools``. Without ``.ToolCalls`` the model is never shown what it
    has called; with ``.ToolCalls`` alone, Ollama refuses requests that have tools.
    """
    template = c.last("TEMPLATE")
    if not template or c.all("RENDERER"):
        return
    has = variables(template.value) & {"Tools", "ToolCalls"}
    if has == {"Tools"}:
        yield at(template, "the TEMPLATE has .Tools and no .ToolCalls: the model never sees its own calls")
    elif has == {"ToolCalls"}:
        yield at(template, "the TEMPLATE has .ToolCalls and no .Tools: Ollama refuses requests with tools")


def ignored_template(c: Context) -> Iterator[Problem]:
    """With a RENDERER Ollama renders prompts in Go code, and the TEMPLATE is not used; beside a PARSER alone it is."""
    renderer, template = c.last("RENDERER"), c.last("TEMPLATE")
    if renderer and renderer.value and template:
        yield at(template, f"RENDERER {renderer.value} writes the prompts: this TEMPLATE is not used")


def unknown_renderer(c: Context) -> Iterator[Problem]:
    """Ollama stores any name. At the first chat an unknown RENDERER is an error; an unknown PARSER is silently none."""
    for keyword, known in (("RENDERER", RENDERERS), ("PARSER", PARSERS)):
        for command in c.all(keyword):
            if command.value and command.value not in known:
                more = did_you_mean(command.value, sorted(known))
                yield at_value(command, f"Ollama has no {keyword.lower()} {command.value!r}{more}")


def bare_template(c: Context) -> Iterator[Problem]:
    """``ollama show --modelfile`` prints ``TEMPLATE {{ .Prompt }}`` for models that have none. Kept in a Modelfile it
    is a template like any other: the chat template of the GGUF, roles and system message are gone.
    """
    for command in c.all("TEMPLATE"):
        if re.fullmatch(r"\{\{-?\s*\.Prompt\s*-?\}\}", command.value):
            yield at(command, "this TEMPLATE takes the place of the model's chat template, and has no roles")
