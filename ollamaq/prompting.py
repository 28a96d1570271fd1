"""How a package is prompted: the strategies tried on a target one after the other, until prompts are as in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ollamaq.chat.choose import CHAT_TEMPLATE
from ollamaq.chat.forms import gguf_format, jinja_form
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.strategy import Strategy, strategies, version_of
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.versions import Version
from ollamaq.servers.target import Target
from ollamaq.smoke import DIFFERING, CheckResult
from ollamaq.source import Source
from ollamaq.tokenizers.special import adds_bos

DECISIVE = ("prompt", "capabilities")
"""The checks that another template may pass."""
OWN = Strategy("preset", "its Modelfile says itself how conversations are rendered")
WORST = 1000.0
"""What a decisive check that no prompts were counted in is worth, in prompts."""


class Prompting:
    """The strategy in force, and those that were tried before it.

    Raises:
        ModelRefused: the server renders no Jinja, and no TEMPLATE could be proved.
    """

    def __init__(self, opened: Source, targets: Sequence[Target], ollama: Sequence[str] = ()) -> None:
        self.trained = trained_format(opened)
        architecture = opened.model.metadata.get("general.architecture")
        form = (
            jinja_form(Path(opened.path).name, self.trained, bos=adds_bos(opened.model.metadata))
            if self.trained
            else None
        )
        self._renders_go = all(target.engine == "Ollama" for target in targets)
        self._candidates: Iterator[Strategy] = strategies(
            form,
            _oldest(targets, ollama),
            known=opened.chat_format,
            architecture=str(architecture.value) if architecture and self._renders_go else "",
            tried=bool(targets),
        )
        self.chosen = next(self._candidates)
        self._failed: list[tuple[Strategy, float, str]] = []
        self._decided = False

    def applied(self, modelfile: Modelfile) -> Modelfile:
        """With what the strategy brings, unless it says itself how conversations are rendered."""
        if _renders(modelfile):
            return modelfile
        chosen, parser = self.chosen, modelfile.parser or self.chosen.parser
        return replace(modelfile, template=chosen.template, renderer=chosen.renderer, parser=parser)

    def another(self, modelfile: Modelfile, checks: Sequence[CheckResult]) -> bool:
        """Whether there is another one to try, after checks that failed by what a template is to blame for.

        Where none passes, the one with the fewest other prompts is tried once more: a gate may let it pass.
        """
        wrong = [check for check in checks if check.ok is False and _kind(check) in DECISIVE]
        if not wrong or not self._renders_go or self._decided or _renders(modelfile):
            return False
        differing = sum(check.measured.get(DIFFERING, WORST) for check in wrong)
        self._failed.append((self.chosen, differing, wrong[0].detail))
        better = next(self._candidates, None)
        self._decided = better is None
        last, self.chosen = self.chosen, better or min(self._failed, key=lambda failed: failed[1])[0]
        return self.chosen is not last

    def facts(self, modelfile: Modelfile, checks: Sequence[CheckResult]) -> dict[str, Any]:
        """For ``release.json``."""
        prompt = next((check for check in checks if _kind(check) == "prompt"), None)
        chosen = OWN if _renders(modelfile) else self.chosen
        brought = {"renderer": chosen.renderer, "parser": chosen.parser, "without": chosen.without}
        return {
            "strategy": chosen.name,
            "reason": chosen.reason,
            **{key: value for key, value in brought.items() if value},
            "passed_over": [_told(failed, why) for failed, _, why in self._failed if failed is not chosen],
            "equal_to_training": prompt.ok if prompt else None,
            "verdict": prompt.detail if prompt else "not tested",
        }


def trained_format(opened: Source) -> ChatFormat | None:
    """The chat format of training."""
    if opened.checkpoint:
        return ChatFormat.of(opened.checkpoint)
    return gguf_format(opened.model.metadata) if CHAT_TEMPLATE in opened.model.metadata else None


def _oldest(targets: Sequence[Target], ollama: Sequence[str]) -> Version | None:
    """The version that can do the least of those that are known."""
    told = [*ollama, *(target.version for target in targets if target.engine == "Ollama")]
    return min((version for text in told if (version := version_of(text))), default=None)


def _renders(modelfile: Modelfile) -> bool:
    """Whether it says itself how conversations are rendered."""
    return bool(modelfile.template or modelfile.renderer)


def _told(strategy: Strategy, why: str) -> dict[str, str]:
    renderer = {"renderer": strategy.renderer} if strategy.renderer else {}
    return {"strategy": strategy.name, **renderer, "because": why}


def _kind(check: CheckResult) -> str:
    """Its name without the version of the server, of several."""
    return check.name.partition("@")[0]
