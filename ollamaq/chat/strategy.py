"""Which template a package brings, for the server it goes to: what is tried first, and what after it, each by proof.

Ollama before 0.30 renders Go alone: there a TEMPLATE must have been proved. From 0.30 on llama.cpp renders the GGUF's
own chat template, which can say all of it; where that engine does it otherwise, a proved TEMPLATE takes its place, if
Ollama would use it (`selection`). A build from source says 0.0.0, which is taken for the newest: if it is not, the
prompts differ, and the TEMPLATE is what is tried next.

To some architectures Ollama attaches a RENDERER of its own, which no TEMPLATE replaces: of those that are made for the
architecture, the one with the right prompts is looked for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from itertools import product

from ollamaq.chat.answers import UNREAD, calls_in_answers
from ollamaq.chat.carried import carried_before
from ollamaq.chat.compare import DIFFERS, EQUAL
from ollamaq.chat.conversations import KINDS, TEXT, THINKING, TOOLS
from ollamaq.chat.derive import SOME_TOOLS, CannotDerive, derive
from ollamaq.chat.features import THINKING as CAN_THINK
from ollamaq.chat.features import features
from ollamaq.chat.forms import Form, go_form
from ollamaq.chat.gotemplate import GoTemplate
from ollamaq.chat.known import KnownFormat
from ollamaq.chat.prove import RANDOM, Proof, prove
from ollamaq.chat.selection import jinja_wins
from ollamaq.errors import ModelRefused
from ollamaq.modelfile.versions import JINJA, SEMVER, Version, parse_version, written

NATIVE, DERIVED, KNOWN, RENDERER, NONE = "chat template", "derived TEMPLATE", "known TEMPLATE", "RENDERER", "none"
NO_THINKING = "gemma4-no-thinking"
"""The PARSER of a Gemma 4 that does not think."""
ATTACHED = {
    "gemma4": tuple(product(("gemma4-large", "gemma4-small"), ("gemma4", NO_THINKING))),
    "laguna": (("laguna", "laguna"), ("poolside-v1", "poolside-v1")),
    **dict.fromkeys(
        ("nemotron_h", "nemotron_h_moe", "nemotron_h_omni"),
        (("nemotron-3-nano", "nemotron-3-nano"), ("nemotron-3.5-nano", "nemotron-3.5-nano")),
    ),
}
"""Architectures to which Ollama attaches a RENDERER and a PARSER where a Modelfile names none (``server/create.go``),
and the pairs that it has for them. Of Gemma 4's renderers it would take one by the model's name.
"""

NESTED_REQUIRED = re.compile(r"\n\{\{- if \.Required \}\}.*?\{\{ end \}\}(?=\n)")
"""Of a property in a derived TEMPLATE: a field that older servers do not have."""


@dataclass(frozen=True)
class Strategy:
    """A choice and its reason; ``template``, ``renderer`` and ``parser`` are what the Modelfile gets, ``without`` what
    that leaves out, and why.
    """

    name: str
    reason: str
    template: str | None = None
    without: dict[str, str] = field(default_factory=dict)
    renderer: str | None = None
    parser: str | None = None


def version_of(text: str) -> Version | None:
    """A server's version; None where it does not tell (a build from source says 0.0.0)."""
    if not SEMVER.fullmatch(text):
        return None
    version = parse_version(text)
    return version if any(version) else None


def strategies(
    trained: Form | None,
    version: Version | None,
    *,
    known: KnownFormat | None = None,
    architecture: str = "",
    tried: bool = True,
) -> Iterator[Strategy]:
    """What to try, best first; the next one is worked out only when it is asked for.

    Args:
        trained: the chat template of training, if there is one.
        version: the server's; None for one that is as new as ours.
        known: the format that the model's user named.
        architecture: the GGUF's; empty where it goes to a store, which attaches no RENDERER.
        tried: whether they are, one after the other.

    Raises:
        ModelRefused: the server renders no Jinja, and no TEMPLATE could be proved.
    """
    if trained is None:
        yield Strategy(NONE, "the model has no chat template")
    elif version is not None and version < JINJA:
        yield _for_go_alone(trained, version, known)
    elif architecture in ATTACHED:
        reason = f"Ollama attaches a RENDERER to every {architecture} model"
        for renderer, parser in ATTACHED[architecture] if tried else ():
            if parser != NO_THINKING or CAN_THINK not in features(trained):
                yield Strategy(RENDERER, reason, renderer=renderer, parser=parser)
        yield Strategy(RENDERER, f"{reason}, of its choice")
    else:
        yield Strategy(NATIVE, f"Ollama renders the GGUF's own from {written(JINJA)} on")
        yield from _instead(trained)


def _for_go_alone(trained: Form, version: Version, known: KnownFormat | None) -> Strategy:
    try:
        return _derived(trained, f"Ollama {written(version)} renders no Jinja", old=True)
    except CannotDerive as error:
        if known:
            return Strategy(KNOWN, f"Ollama {written(version)} renders no Jinja; {known.name} was named", known.go)
        raise ModelRefused(
            f"Ollama {written(version)} renders no Jinja, and no TEMPLATE was proved equal to the chat template"
            f" of {trained.origin}: {error.why}",
            next_step=f"publish to Ollama {written(JINJA)} or newer, or name its format by --chat-format",
        ) from error


def _instead(trained: Form) -> Iterator[Strategy]:
    try:
        made = _derived(trained, "llama.cpp renders the chat template otherwise than in training")
    except CannotDerive:
        return
    assert made.template
    if made.without.keys() <= {SOME_TOOLS} and not jinja_wins(trained.text, GoTemplate.parse(made.template)):
        yield made


def _derived(trained: Form, reason: str, *, old: bool = False) -> Strategy:
    """The derived TEMPLATE, without the features of which it is not proved; ``old`` is for servers before 0.30.

    Raises:
        CannotDerive: not even texts are equal.
    """
    assert trained.chat_format
    without: dict[str, str] = {}
    while True:
        derived = derive(trained.chat_format, bos=trained.bos, without=without)
        template = NESTED_REQUIRED.sub("", derived.template) if old else derived.template
        form = go_form("derived", template)
        proof = prove(trained, replace(form, carrier=carried_before) if old else form, random=RANDOM)
        without = {name: why for name, why in derived.without.items() if name in KINDS}
        wrong = _wrong(proof, without)
        if TEXT in wrong or not proof.counts(TEXT)[EQUAL]:
            raise CannotDerive(_difference(proof))
        if not wrong:
            calls = calls_in_answers(trained, derived.without)
            told = "; ".join([reason, proof.summary, *([] if calls.found else [UNREAD])])
            return Strategy(DERIVED, told, template, derived.without, parser=calls.parser)
        without |= {wrong[0]: _difference(proof)}


def _wrong(proof: Proof, without: Collection[str]) -> list[str]:
    """The features that differ, but for those that are left out anyway; ``text`` where nothing else is to blame."""
    found = set()
    for conversation, verdict in proof.verdicts:
        if verdict.verdict == DIFFERS and not conversation.needs & {*without}:
            found.add(next((kind for kind in (TOOLS, THINKING) if kind in conversation.needs), TEXT))
    return [kind for kind in KINDS if kind in found]


def _difference(proof: Proof) -> str:
    """The first difference, or that there is nothing equal."""
    if not proof.counterexample:
        return "it refuses every conversation"
    _, verdict = proof.counterexample
    at = verdict.offset
    return f"{verdict.conversation} has {verdict.b[at : at + 30]!r} where it has {verdict.a[at : at + 30]!r}"
