"""Which of a model's two templates Ollama 0.30 and newer takes, and what it believes each can do.

By its own rules (``server/images.go``, ``thinking/template.go`` of v0.34.2): by words in the text of the chat template,
and by the variables and tags of a Go TEMPLATE.
"""

from __future__ import annotations

from collections.abc import Iterator

from ollamaq.chat.gotemplate import GoTemplate, syntax

TOOLS, THINKING, INSERT = "tools", "thinking", "insert"
ROLE = ("role'] == ", 'role"] == ', "message.role == ")
TOOL_ROLE = tuple(f"{role}{quote}tool{quote}" for role in ROLE for quote in "'\"")
RESULTS = ("tool_response", "tool_results", *TOOL_ROLE, "ipython")
RESULTS_IN_GO = ('eq .Role "tool"', "tool_response", "TOOL_RESULTS")
SPLIT = ("content.split('</think>')", 'content.split("</think>")')


def claims_of_jinja(template: str) -> frozenset[str]:
    """What Ollama believes that a chat template can do."""
    found = {TOOLS} if "tools" in template or "tool_call" in template else set()
    tagged = "<think>" in template and "</think>" in template
    splits = any(text in template for text in SPLIT)
    if tagged or (splits and "reasoning_content" not in template and "<SPECIAL_12>" not in template):
        found.add(THINKING)
    return frozenset(found)


def claims_of_go(template: GoTemplate) -> frozenset[str]:
    """What Ollama believes that a TEMPLATE can do."""
    found = {name for name, variable in ((TOOLS, "tools"), (INSERT, "suffix")) if variable in template.variables}
    return frozenset(found | ({THINKING} if all(think_tags(template)) else set()))


def jinja_wins(jinja: str, go: GoTemplate) -> bool:
    """Whether the GGUF's chat template is taken, although the model has a TEMPLATE."""
    claimed, claimed_too = claims_of_jinja(jinja), claims_of_go(go)
    if len(claimed) > len(claimed_too):
        return not _answers_calls_in_go(go) or _answers_calls(jinja)
    return claimed == claimed_too and TOOLS in claimed and _answers_calls(jinja) and not _answers_calls_in_go(go)


def _answers_calls(jinja: str) -> bool:
    calls = "tool_calls" in jinja or "assistant_tool_call" in jinja
    return calls and any(text in jinja for text in RESULTS)


def _answers_calls_in_go(go: GoTemplate) -> bool:
    if not {"tools", "toolcalls"} <= go.variables:
        return False
    text = str(go.trees[b""])
    return any(part in text for part in RESULTS_IN_GO)


def think_tags(template: GoTemplate) -> tuple[str, str]:
    """The texts around the last ``.Thinking`` in a loop over messages; empty where there are none."""
    opening = closing = ""
    for ancestors in _thoughts(template.trees[b""], ()):
        loops = [node for node in ancestors if isinstance(node, syntax.Branch) and node.keyword == "range"]
        if not loops or not any(field == "Messages" for field in _fields(loops[-1].pipe)):
            continue
        nearest = next(node for node in reversed(ancestors) if isinstance(node, syntax.Nodes))
        first, last = nearest.nodes[0], nearest.nodes[-1]
        opening = str(first).strip() if isinstance(first, syntax.Text) else opening
        closing = str(last).strip() if isinstance(last, syntax.Text) else closing
    return opening, closing


def _thoughts(node: syntax.Node, above: tuple[syntax.Node, ...]) -> Iterator[tuple[syntax.Node, ...]]:
    """What each ``.Thinking`` stands in."""
    if isinstance(node, syntax.Field) and node.names[:1] == ["Thinking"]:
        yield above
    for child in _children(node):
        yield from _thoughts(child, (*above, node))


def _fields(node: syntax.Node) -> Iterator[str]:
    if isinstance(node, syntax.Field):
        yield node.names[0]
    for child in _children(node):
        yield from _fields(child)


def _children(node: syntax.Node) -> list[syntax.Node]:
    match node:
        case syntax.Nodes():
            return node.nodes
        case syntax.Branch():
            return [part for part in (node.pipe, node.body, node.other) if part is not None]
        case syntax.Action() | syntax.Call():
            return [node.pipe] if node.pipe else []
        case syntax.Pipe():
            return [*node.commands]
        case syntax.Command():
            return node.args
    return []
