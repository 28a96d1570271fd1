"""Models with the chat templates of other families, published on real servers of two generations."""

import json
from pathlib import Path

import parts
import pytest
from misbehaving import Server
from talker import write_talker

import ollamaq
from ollamaq import prompting, publishing
from ollamaq.chat.strategy import DERIVED, NATIVE, Strategy
from ollamaq.ollama.client import Client

NUM_CTX = 32768
"""Tokens, of which the talker's vocabulary needs many; what does not fit, a server leaves out."""
FAMILIES = {
    "GLM-4.7-Flash": DERIVED,
    "HuggingFaceTB-SmolLM3-3B": NATIVE,
    "Qwen-Qwen2.5-7B-Instruct": NATIVE,
    "Qwen-Qwen3-0.6B": NATIVE,
    "google-gemma-2-2b-it": NATIVE,
    "google-gemma-4-31B-it": DERIVED,
    "ibm-granite-granite-4.0": NATIVE,
    "meta-llama-Llama-3.1-8B-Instruct": DERIVED,
    "microsoft-Phi-3.5-mini-instruct": NATIVE,
    "moonshotai-Kimi-K2": NATIVE,
    "unsloth-mistral-Devstral-Small-2507": NATIVE,
}
"""And what becomes of each. llama.cpp has Llama 3.1 know the date, which stays the same in training."""
THINKS = {"GLM-4.7-Flash": "</think>Paris.", "google-gemma-4-31B-it": "<|channel>thought\n<channel|>Paris."}
"""What is said by those whose PARSER takes what comes first for a thought."""
PARSERS = {"GLM-4.7-Flash": "glm-4.7", "google-gemma-4-31B-it": "gemma4"}
CAPABILITIES = {
    **{family: {"tools", "thinking"} for family in PARSERS},
    "Qwen-Qwen2.5-7B-Instruct": {"tools"},
    "Qwen-Qwen3-0.6B": {"tools", "thinking"},
}


def talker(place: Path, family: str, comment: str = "") -> Path:
    template = (parts.chat_templates() / f"{family}.jinja").read_text()
    says = THINKS.get(family, "")
    return write_talker(place / family, template=template, context=NUM_CTX, comment=comment, says=says)


def release_of(place: Path) -> dict:
    return json.loads((place / "out" / "release.json").read_text())


def models(client: Client) -> dict[str, str]:
    """Names and digests; the server lists those of one second in any order."""
    return {model["name"]: model["digest"] for model in client.tags()}


@pytest.fixture(autouse=True)
def long_context(monkeypatch):
    """The server's own default would cut the longest conversations short."""
    chosen = publishing.as_parameters
    monkeypatch.setattr(publishing, "as_parameters", lambda given: chosen(given) | {"num_ctx": NUM_CTX})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_prompted_as_in_training(family, ollama_server, tmp_path):
    name = f"talker-{family[:40]}".lower()
    (release,) = ollamaq.publish(
        talker(tmp_path, family), name, quantization="Q8_0", to=ollama_server, output=tmp_path / "out", expect="Paris"
    )
    told = release_of(tmp_path)["template"]
    assert (told["strategy"], told["equal_to_training"]) == (FAMILIES[family], True)
    assert told.get("parser") == PARSERS.get(family)
    with Client(ollama_server) as client:
        assert CAPABILITIES.get(family, set()) <= set(client.show(release.name)["capabilities"])


def test_a_wrong_template_fails_the_publication_and_leaves_nothing_behind(ollama_server, tmp_path, monkeypatch):
    wrong = Strategy("wrong", "to see it fail", "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}")
    monkeypatch.setattr(prompting, "strategies", lambda *given, **options: iter([wrong]))
    with Client(ollama_server) as client:
        before = models(client)
        with pytest.raises(publishing.PublishFailed, match="prompt"):
            ollamaq.publish(
                talker(tmp_path, "google-gemma-2-2b-it", "wrong"),
                "talker-wrong",
                quantization="Q8_0",
                to=ollama_server,
                output=tmp_path / "out",
            )
        assert models(client) == before
    assert release_of(tmp_path)["template"]["equal_to_training"] is False


def test_a_server_before_jinja_is_given_a_template_and_renders_it_as_in_training(free_port, tmp_path):
    server = Server(tmp_path, free_port, program=parts.legacy_ollama() / "bin" / "ollama")
    server.start()
    try:
        ollamaq.publish(
            talker(tmp_path, "Qwen-Qwen3-0.6B"),
            "talker-old",
            quantization="Q8_0",
            to=server.url,
            output=tmp_path / "out",
            expect="Paris",
        )
    finally:
        server.kill()
    told = release_of(tmp_path)["template"]
    assert (told["strategy"], told["equal_to_training"]) == (DERIVED, True)
    assert "TEMPLATE" in (tmp_path / "out" / "Modelfile").read_text()
