"""Writes docs/chat-formats.md: the chat formats in ``templates/``, and what shows that they are right.

    python docs/make_chat_formats.py > docs/chat-formats.md

Read from ``templates/formats.toml``.
"""

from __future__ import annotations

from collections.abc import Iterable

from ollamaq.chat.known import KnownFormat, known_formats, shown

HEAD = """# Chat formats
Made by `docs/make_chat_formats.py` from `templates/formats.toml`.

For models that come without a chat template: `ollamaq publish DIR --chat-format NAME` gives the model the format's chat
template (`templates/NAME.jinja`), its stops and, where generation_config.json does not say them, its sampling;
`ollamaq template show format:NAME` prints the Go TEMPLATE for a Modelfile (`templates/NAME.gotmpl`). Where the special
tokens in the third column are in a model's vocabulary, `publish` suggests the format that knows most of them.

Both forms of each format give the same prompts for every conversation of the suite (`tests/test_known_formats.py`),
but for two messages of one role in a row, which Ollama merges before a TEMPLATE sees them. A format speaks of text and,
where its models think, of thinking: what tools look like is left to models that bring their own chat template. `trim`
in a TEMPLATE takes away the white space of ASCII, in a chat template that of Unicode.

The last column names real chat templates (in llama.cpp's `models/templates`) that give the prompts of our TEMPLATE
(`integration/test_known_formats.py`); *with a system message* where a real one brings one of its own along, and
*llama.cpp's* for formats in its own code, which `llama-server --no-jinja --chat-template` renders.

| format | models | special tokens | stops | sampling | the same prompts as |
|---|---|---|---|---|---|
"""


def row(known: KnownFormat) -> str:
    """A format's line of the table."""
    sampling = ", ".join(f"{name} {value}" for name, value in known.parameters.items())
    proved = [*known.proved, *(f"{name} *with a system message*" for name in known.proved_with_system)]
    proved += [f"llama.cpp's {known.llamacpp}"] if known.llamacpp else []
    name = f"[{known.name}]({known.source})"
    cells = (name, ", ".join(known.models), code(known.tokens), code(known.stops), sampling, ", ".join(proved))
    return f"| {' | '.join(cells)} |"


def code(texts: Iterable[str]) -> str:
    """Texts as code in a table of Markdown."""
    return " ".join(f"`{shown([text])}`".replace("|", r"\|") for text in texts)


if __name__ == "__main__":
    print(HEAD + "\n".join(row(known) for known in known_formats().values()))
