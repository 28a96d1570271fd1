"""Writes docs/templates.json: how the chat templates of real models fare, in Go and on a server.

    python docs/measure_templates.py [NAME…]

For each of those that llama.cpp's sources carry (or the named ones): verdicts on conversations, by kind, of the derived
TEMPLATE (over the suite and 300 random ones), of the chat template on a real Ollama, of the TEMPLATE there, and of the
nearest of Ollama's renderers (over the suite), always against the chat template as transformers renders it. For
development: the parts of ``integration/`` are needed, and ten minutes. ``docs/templates-tuned.txt`` has the names of
those that were looked at.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "integration"))

import chat_templates  # noqa: E402
import conftest  # noqa: E402
import parts  # noqa: E402

from ollamaq.chat.answers import calls_in_answers  # noqa: E402
from ollamaq.chat.compare import DIFFERS, EQUAL, LIMIT, OWN_WAY, REFUSED, compare  # noqa: E402
from ollamaq.chat.conversations import KINDS, SUITE, TOOLS, Conversation  # noqa: E402
from ollamaq.chat.derive import CannotDerive, derive  # noqa: E402
from ollamaq.chat.forms import Form, go_form, jinja_form  # noqa: E402
from ollamaq.chat.gotemplate import GoTemplate  # noqa: E402
from ollamaq.chat.prove import RANDOM, Proof, prove  # noqa: E402
from ollamaq.chat.selection import jinja_wins  # noqa: E402
from ollamaq.errors import OllamaqError, ServerError  # noqa: E402
from ollamaq.gguf.model import Model  # noqa: E402
from ollamaq.modelfile.lint.template import RENDERERS  # noqa: E402
from ollamaq.ollama.client import Client  # noqa: E402

MEASURED = DOCS / "templates.json"
PARSER_OF = {
    "deepseek3.1": "deepseek3",
    "gemma4-large": "gemma4",
    "gemma4-small": "gemma4",
    "olmo3.1": "olmo3",
    "olmo3-32b-think": "olmo3-think",
    "qwen3.8": "qwen3.5",
}
"""Of a RENDERER, where that has another name."""
BOS = re.compile(r"<bos>|<｜begin▁of▁sentence｜>|<BOS_TOKEN>|<\|startoftext\|>|<\|begin_of_text\|>|〈\|EOS\|〉")
"""That renderers begin with, whatever the vocabulary."""
VERDICTS = (EQUAL, DIFFERS, OWN_WAY, LIMIT, REFUSED)
SHOWN = 40


def told(proof: Proof) -> dict[str, Any]:
    """Counts of verdicts by kind, in the order of `VERDICTS`, and the first that differs."""
    counts = {kind: [proof.counts(kind)[verdict] for verdict in VERDICTS] for kind in KINDS}
    first = next((v for _, v in proof.verdicts if v.verdict in (DIFFERS, OWN_WAY)), None)
    if first is None:
        return counts
    start = max(0, first.offset - SHOWN // 4)
    seen = [text[start : start + SHOWN] for text in (first.a, first.b)]
    return counts | {"first": [first.conversation, *seen]}


def on_server(client: Client, original: Form, model: Model, place: Path, **modelfile: str | None) -> dict[str, Any]:
    try:
        with chat_templates.served(client, "measured", model, place / "model.gguf", **modelfile):
            form = chat_templates.form(client, "measured")
            return told(prove(original, form, random=0)) | {"in_effect": "Jinja" if form.native else "Go"}
    except OllamaqError as error:
        return {"error": str(error)[:300]}


def renderers(client: Client, model: Model, place: Path) -> dict[str, Form]:
    """What Ollama's renderers make of the suite, whatever the model."""
    forms = {}
    for name in sorted(RENDERERS):
        modelfile = {"renderer": name, "parser": PARSER_OF.get(name, name)}
        with chat_templates.served(client, "measured", model, place / "model.gguf", **modelfile):
            served = chat_templates.form(client, "measured")
            prompts = {
                (told, think): _prompt(served, replace(chat, think=think))
                for told, chat in SUITE.items()
                for think in ((chat.think,) if chat.think is not None or not served.thinks else (None, True, False))
            }
        begun = BOS.match(str(prompts["system message", None]))
        forms[name] = replace(served, render=_looked_up(prompts), bos=begun[0] if begun else "")
    return forms


def _prompt(form: Form, conversation: Conversation) -> str | ServerError:
    try:
        return form.render(conversation)
    except ServerError as error:
        return error


def _looked_up(prompts: Mapping[tuple[str, bool | None], str | ServerError]) -> Callable[[Conversation], str]:
    def render(conversation: Conversation) -> str:
        name = next(told for told, chat in SUITE.items() if chat.messages is conversation.messages)
        found = prompts[name, conversation.think]
        if isinstance(found, ServerError):
            raise found
        return found

    return render


def nearest(original: Form, forms: Mapping[str, Form]) -> dict[str, Any]:
    """The renderer by which the fewest conversations differ."""
    proofs = {
        name: Proof(list(zip(SUITE.values(), compare(original, form, SUITE), strict=True)))
        for name, form in forms.items()
    }
    differing = {name: sum(proof.counts(kind)[DIFFERS] for kind in KINDS) for name, proof in proofs.items()}
    name = min(differing, key=lambda name: (differing[name], name))
    return told(proofs[name]) | {"name": name}


def measure(name: str, client: Client, model: Model, place: Path, forms: Mapping[str, Form]) -> dict[str, Any]:
    text = (parts.chat_templates() / f"{name}.jinja").read_text()
    chat_format = chat_templates.chat_format(text)
    original = jinja_form(name, chat_format)
    model = chat_templates.with_template(model, text)
    measured: dict[str, Any] = {"jinja": on_server(client, original, model, place)}
    measured["renderer"] = nearest(original, forms)
    try:
        derived = derive(chat_format, bos=original.bos)
    except CannotDerive as error:
        return measured | {"go": {"error": error.why}}
    proof = prove(original, go_form("derived", derived.template), random=RANDOM)
    calls = calls_in_answers(original, derived.without)
    found = calls.parser or ("TEMPLATE" if calls.found and TOOLS not in derived.without else None)
    measured["go"] = told(proof) | {"without": derived.without, "calls": found}
    measured["template"] = on_server(client, original, model, place, template=derived.template, parser=calls.parser)
    measured["jinja_wins"] = jinja_wins(text, GoTemplate.parse(derived.template))
    return measured


def main(names: Sequence[str]) -> None:
    names = names or sorted(path.stem for path in parts.chat_templates().glob("*.jinja"))
    found = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    address = f"127.0.0.1:{conftest.unused_port()}"
    with tempfile.TemporaryDirectory() as scratch, Client(f"http://{address}") as client:
        place = Path(scratch)
        own = {"HOME": scratch, "OLLAMA_MODELS": f"{scratch}/models", "OLLAMA_HOST": address}
        with (place / "log").open("wb") as log:
            line = [parts.ollama() / "bin" / "ollama", "serve"]
            server = subprocess.Popen(line, env=os.environ | own, stdout=log, stderr=log)
        try:
            conftest.wait_until_it_answers(
                f"{client.url}/api/version", lambda: server.poll() is None, Path(log.name).read_text
            )
            model = chat_templates.tiny_model(place / "tiny")
            forms = renderers(client, model, place)
            for name in names:
                found[name] = measure(name, client, model, place, forms)
                print(name, flush=True)
        finally:
            server.terminate()
            server.wait()
    MEASURED.write_text(json.dumps(dict(sorted(found.items())), ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
