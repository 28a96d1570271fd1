"""Templates are rendered as Ollama's own package does. OLLAMAQ_FUZZ_EXAMPLES asks for more, and other, examples."""

import os

import pytest
from gotemplates import CHATS, CHOSEN, CHOSEN_CHATS, QUESTIONS, Ollama, differ, stock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = os.environ.get("OLLAMAQ_FUZZ_EXAMPLES")
FUZZ = {
    "derandomize": EXAMPLES is None,
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture(scope="module")
def ollama():
    renderer = Ollama()
    yield renderer
    renderer.process.stdin.close()
    assert renderer.process.wait(10) == 0
    renderer.process.stdout.close()


@pytest.mark.parametrize("text", CHOSEN)
def test_each_feature_renders_as_ollama_renders_it(ollama, text):
    questions = [{"template": text, "chat": chat} for chat in CHOSEN_CHATS]
    assert not [found for question in questions if (found := differ(question, ollama(question)))]


@settings(max_examples=int(EXAMPLES or 200), **FUZZ)
@given(chat=st.one_of(st.sampled_from(CHOSEN_CHATS), CHATS))
def test_stock_templates_render_any_chat_as_ollama_does(ollama, chat):
    templates = stock()
    assert len(templates) >= 19
    questions = [{"template": text, "chat": chat} for text in templates.values()]
    assert not [found for question in questions if (found := differ(question, ollama(question)))]


@settings(max_examples=int(EXAMPLES or 4000), **FUZZ)
@given(question=QUESTIONS)
def test_any_template_and_any_chat_are_answered_as_ollama_answers_them(ollama, question):
    assert not differ(question, ollama(question))
