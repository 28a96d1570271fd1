"""Templates are rendered as Ollama's own package does. OLLAMAQ_FUZZ_EXAMPLES asks for more, and other, examples."""

import json
import os

import parts
import pytest
from gotemplates import CHATS, CHOSEN, CHOSEN_CHATS, QUESTIONS, differ, stock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ollamaq.chat.conversations import SUITE
from ollamaq.cli import app

EXAMPLES = os.environ.get("OLLAMAQ_FUZZ_EXAMPLES")
FUZZ = {
    "derandomize": EXAMPLES is None,
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.mark.parametrize("text", CHOSEN)
def test_each_feature_renders_as_ollama_renders_it(ollama_package, text):
    questions = [{"template": text, "chat": chat} for chat in CHOSEN_CHATS]
    assert not [found for question in questions if (found := differ(question, ollama_package(question)))]


@settings(max_examples=int(EXAMPLES or 200), **FUZZ)
@given(chat=st.one_of(st.sampled_from(CHOSEN_CHATS), CHATS))
def test_stock_templates_render_any_chat_as_ollama_does(ollama_package, chat):
    templates = stock()
    assert len(templates) >= 19
    questions = [{"template": text, "chat": chat} for text in templates.values()]
    assert not [found for question in questions if (found := differ(question, ollama_package(question)))]


@settings(max_examples=int(EXAMPLES or 3000), **FUZZ)
@given(question=QUESTIONS)
def test_any_template_and_any_chat_are_answered_as_ollama_answers_them(ollama_package, question):
    assert not differ(question, ollama_package(question))


SERVED = """
{{- if .System }}<|im_start|>system
{{ .System }}{{ range .Tools }}
{{ . }}{{ end }}<|im_end|>
{{ end }}{{ range $i, $m := .Messages }}{{ if ne .Role `system` }}<|im_start|>{{ .Role }}
{{ .Content }}{{ range .ToolCalls }}<call>{{ .Function.Name }} {{ .Function.Arguments }}</call>{{ end }}<|im_end|>
{{ end }}{{ end }}<|im_start|>assistant
"""


def test_a_real_server_renders_a_template_as_we_do(ollama_command, ollama_server, tmp_path):
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(f'FROM {parts.smollm2_gguf()}\nTEMPLATE """{SERVED}"""\n')
    ollama_command("create", "templated", "-f", modelfile)
    asked = CliRunner().invoke(
        app, ["template", "check", str(modelfile), "templated", "--server", ollama_server, "--json"]
    )
    counts = json.loads(asked.stdout)["counts"]
    thinking = [name for name, conversation in SUITE.items() if conversation.think]
    assert counts.pop("refused") == len(thinking)  # it does not think
    assert set(counts) == {"equal"}, asked.stdout
