"""How a package is prompted: the strategies tried on a target one after the other, until prompts are as in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ollamaq.chat.choose import CHAT_TEMPLATE
from ollamaq.chat.forms import gguf_format, jinja_form
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.strategy import Strategy, strategies, version_of
from ollamaq.modelfile.versions import Version
from ollamaq.servers.target import Target
from ollamaq.smoke import CheckResult
from ollamaq.source import Source
from ollamaq.tokenizers.special import adds_bos

DECISIVE = ("prompt", "capabilities")
"""The checks that another template may pass."""


class Prompting:
    """The strategy in force, and those that were passed over with the reason.

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
        self._candidates: Iterator[Strategy] = strategies(
            form,
            _oldest(targets, ollama),
            known=opened.chat_format,
            architecture=str(architecture.value) if architecture else "",
        )
        self._renders_go = all(target.engine == "Ollama" for target in targets)
        self.chosen = next(self._candidates)
        self.passed_over: list[tuple[Strategy, str]] = []

    def another(self, checks: Sequence[CheckResult]) -> bool:
        """Whether there is another one to try, after checks that failed by what a template is to blame for."""
        wrong = next((check for check in checks if check.ok is False and _kind(check) in DECISIVE), None)
        better = next(self._candidates, None) if wrong and self._renders_go else None
        if not wrong or not better:
            return False
        self.passed_over.append((self.chosen, wrong.detail))
        self.chosen = better
        return True

    def facts(self, checks: Sequence[CheckResult]) -> dict[str, Any]:
        """For ``release.json``."""
        prompt = next((check for check in checks if _kind(check) == "prompt"), None)
        return {
            "strategy": self.chosen.name,
            "reason": self.chosen.reason,
            **({"without": self.chosen.without} if self.chosen.without else {}),
            "passed_over": [{"strategy": passed.name, "because": why} for passed, why in self.passed_over],
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


def _kind(check: CheckResult) -> str:
    """Its name without the version of the server, of several."""
    return check.name.partition("@")[0]
