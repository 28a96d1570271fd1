"""Keeps a chat template from being replaced on the way in.

From 0.30 on Ollama uses the template in the GGUF, unless it is less than 100 edits from one that Ollama has in stock:
then the stock one is attached, which may lack the fine-tune's system prompt or markers. A comment longer than that
keeps the distance, and renders as nothing.
"""

from __future__ import annotations

import re

GUARD = (
    "{#- The lines below are the chat template of this model's training. Ollama attaches a stock template of its own"
    " to a model whose template is less than 100 edits away from it; this comment keeps the distance. -#}"
)


def protect(template: str) -> str:
    """The template behind the comment, rendering the same text; one that is protected already stays as it is.

    The comment strips white space after itself, so what of it the template would show first is said in an expression.
    """
    if template.startswith(GUARD):
        return template
    body = template.lstrip()
    leading = re.sub(r"\r\n?", "\n", template[: len(template) - len(body)])
    if not body:
        leading = leading.removesuffix("\n")  # Jinja drops the newline at the end of a template
    elif body.startswith(("{%-", "{{-", "{#-")):
        leading = ""
    elif body.startswith(("{%", "{#")) and body[2:3] != "+":
        leading = leading[: leading.rfind("\n") + 1]  # lstrip_blocks takes the blanks before a block on its line
    return GUARD + ("{{- " + repr(leading) + " }}" if leading else "") + body
