"""Whether a server prompts a model as in training: over every conversation of the suite, rendered and not answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ollamaq.chat.compare import DIFFERS, EQUAL, LIMIT, OWN_WAY, REFUSED, TOLD, Verdict, as_asked, compare
from ollamaq.chat.conversations import SUITE, Conversation
from ollamaq.chat.features import CALLS, DATE, THINKING, TOOLS, features
from ollamaq.chat.forms import Form, asked, jinja_form, ollama_messages, server_form
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.selection import THINKING as CAN_THINK
from ollamaq.chat.selection import TOOLS as CAN_CALL
from ollamaq.chat.selection import claims_of_jinja
from ollamaq.chat.strategy import version_of
from ollamaq.modelfile.shown import RENDERER
from ollamaq.modelfile.versions import JINJA
from ollamaq.servers.target import Target
from ollamaq.smoke.checks import wrong_prompt

ASIDE = ((LIMIT, "not carried by Ollama"), (OWN_WAY, "rendered in llama.cpp's own way"), (REFUSED, "refused"))


@dataclass(frozen=True)
class Prompts:
    """The prompts of a model on a target, beside those of training."""

    target: Target
    name: str
    chat_format: ChatFormat

    @cached_property
    def trained(self) -> Form:
        return jinja_form("training", self.chat_format)

    @cached_property
    def served(self) -> Form:
        def render(conversation: Conversation) -> str:
            return self.target.render(self.name, ollama_messages(conversation), **asked(conversation))

        version = version_of(self.target.version)
        old = version is not None and version < JINJA
        return server_form(self.target.label, self.target.template(self.name), self.capabilities, render, old=old)

    @cached_property
    def capabilities(self) -> frozenset[str]:
        return frozenset(self.target.capabilities(self.name))

    @cached_property
    def verdicts(self) -> Mapping[str, Verdict]:
        return {verdict.conversation: verdict for verdict in compare(self.trained, self.served, SUITE)}

    def comparable(self, names: Iterable[str]) -> list[tuple[str, Conversation, str]]:
        """Conversations that should be prompted the same: name, as it is asked, and the prompt in training."""
        found = [self.verdicts[name] for name in names]
        return [
            (verdict.conversation, as_asked(self.served, self.trained, SUITE[verdict.conversation]), verdict.a)
            for verdict in found
            if verdict.verdict in (EQUAL, DIFFERS)
        ]

    @property
    def wrong(self) -> str | None:
        """What differs first."""
        first = next((verdict for verdict in self.verdicts.values() if verdict.verdict == DIFFERS), None)
        if first is None:
            return None
        bos = self.chat_format.special_tokens.get("bos_token")
        told = first.b if first.why else wrong_prompt(first.b, first.a, bos) or first.b
        more = f"; {self.differing} of {len(self.verdicts)} conversations differ" if self.differing else ""
        if self.served.text.startswith(RENDERER):
            more += f" by {self.served.text}, which Ollama attaches: gate.max_differing_prompts may let them"
        elif self.chat_format.template.strip() not in self.served.text:
            more += f"; {self.target.label} uses another template"
        if DATE in features(self.trained):
            more += "; the chat template tells the date: see that this machine's clock is right"
        return f"{first.conversation}: {told}{more}"

    @property
    def differing(self) -> int:
        """How many conversations are prompted otherwise than in training; 0 where some cannot be prompted at all."""
        found = [verdict for verdict in self.verdicts.values() if verdict.verdict == DIFFERS]
        return 0 if any(verdict.why for verdict in found) else len(found)

    @property
    def summary(self) -> str:
        counts = Counter(verdict.verdict for verdict in self.verdicts.values())
        told = sum(verdict.why == TOLD for verdict in self.verdicts.values())
        aside = [f"{told} of them {TOLD}"] if told else []
        aside += [f"{counts[what]} {words}" for what, words in ASIDE if counts[what]]
        return f"{counts[EQUAL]} of {counts[EQUAL]} conversations as in training" + "".join(f"; {one}" for one in aside)

    def wrong_capabilities(self) -> str | None:
        """What the server should know that the model can do and does not, or believes and is not so.

        Ollama reads capabilities off the words of a template; what it cannot read off this one is not expected.
        """
        can = features(self.trained)
        able = {name for name, of in ((CAN_CALL, {TOOLS, CALLS}), (CAN_THINK, {THINKING})) if of & {*can}}
        claims = claims_of_jinja(self.chat_format.template)
        seen = self.capabilities & {CAN_CALL, CAN_THINK}
        if lacking := sorted((able & claims) - seen):
            return f"{self.target.label} does not offer {' and '.join(lacking)}, which the chat template has"
        if made_up := sorted(seen - able - claims):
            return f"{self.target.label} offers {' and '.join(made_up)}, of which the chat template knows nothing"
        return None
