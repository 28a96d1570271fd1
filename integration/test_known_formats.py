"""The chat formats of ``templates/`` beside the chat templates of real models, and beside llama.cpp's own code."""

import json
import shutil
import subprocess
import sys

import families
import parts
import pytest
from gotemplates import differ

from ollamaq.chat.carried import carried
from ollamaq.chat.compare import EQUAL, LIMIT, OWN_WAY, REFUSED, compare
from ollamaq.chat.conversations import SUITE
from ollamaq.chat.forms import Form, go_form, jinja_form, ollama_messages, open_form
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.known import find_format, known_formats

ASCII = "other spaces at the ends"
"""Which the formats leave, where chat templates take off more than ASCII's."""
TEXT = {
    name: chat
    for name, chat in SUITE.items()
    if name != ASCII and not chat.tools and not any(message.get("tool_calls") for message in chat.messages)
}
WITH_SYSTEM = {name: chat for name, chat in TEXT.items() if chat.messages[0]["role"] == "system"}
KNOWN = known_formats().values()
ODD = {
    "deepseek-r1": {"two system messages", "markers in an answer"},
    "gemma": {"system message last"},
    "glm-4.5": {"only spaces", "markers in an answer"},
    "nemotron-nano-2": {"markers in the content", "markers in an answer"},
    "qwen3": {"markers in an answer"},
    "seed-oss": {"empty answer", "only spaces"},
    "smollm3": {"lines at the ends", "only spaces"},
}
"""Where formats leave out what the models' own templates do: thoughts cut out of answers, and other rare cases."""


def real(name: str) -> Form:
    """The chat template of a real model."""
    if name.startswith("SmolLM2"):
        return open_form(str(parts.smollm2_gguf()))
    text = (parts.chat_templates() / f"{name}.jinja").read_text()
    return jinja_form(name, ChatFormat(text, {"bos_token": "<s>", "eos_token": "</s>"}))


@pytest.mark.parametrize(
    ("name", "model", "chats"),
    [(known.name, model, TEXT) for known in KNOWN for model in known.proved]
    + [(known.name, model, WITH_SYSTEM) for known in KNOWN for model in known.proved_with_system],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_format_gives_the_prompts_of_a_real_models_template(name, model, chats):
    verdicts = compare(go_form(name, find_format(name).go), real(model), chats)
    wrong = [v.conversation for v in verdicts if v.verdict not in (EQUAL, LIMIT, REFUSED)]
    assert set(wrong) == ODD.get(name, set()) & set(chats)
    assert sum(v.verdict == EQUAL for v in verdicts) >= min(9, len(chats) - 1)


@pytest.mark.parametrize("name", [known.name for known in KNOWN if known.llamacpp])
def test_a_format_gives_the_prompts_of_llama_cpps_own(name, llama_server, tmp_path):
    known = find_format(name)
    form = go_form(name, known.go)
    chats = {
        chat: conversation.messages
        for chat, conversation in TEXT.items()
        if conversation.kind == "text" and conversation.messages[-1]["role"] == "user" and not carried(conversation)[1]
    }
    (tmp_path / "model.gguf").symlink_to(parts.smollm2_gguf())
    options = ("--no-jinja", "--chat-template", known.llamacpp)
    with families.running(llama_server, tmp_path / "model.gguf", *options) as client:
        theirs = {
            chat: client.post("/apply-template", json={"messages": messages}).json()["prompt"]
            for chat, messages in chats.items()
        }
    assert {chat: form.render(TEXT[chat]) for chat in chats} == theirs


def test_ollamas_own_package_renders_every_format_as_we_do(ollama_package):
    questions = [
        {"template": known.go, "chat": {"messages": ollama_messages(chat), "think": chat.think}}
        for known in KNOWN
        for chat in TEXT.values()
    ]
    assert not [found for question in questions if (found := differ(question, ollama_package(question)))]


def test_a_model_without_chat_template_is_published_with_a_named_format(smollm2, ollama_server, tmp_path):
    directory = tmp_path / "untold"
    shutil.copytree(smollm2(576), directory)
    (directory / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    line = [sys.executable, "-m", "ollamaq", "publish", directory, "--to", ollama_server, "--json"]
    told = subprocess.run(
        [*line, "--chat-format", "smollm2", "--expect", "Paris"], cwd=tmp_path, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    (release,) = json.loads(told.stdout)["releases"]
    prompt = next(check for check in release["checks"] if check["name"] == "prompt")
    assert prompt["ok"], prompt
    for form in ("format:smollm2", "format:smollm2.jinja"):
        verdicts = compare(open_form(form), open_form(release["name"], ollama_server), TEXT)
        assert {v.verdict for v in verdicts} <= {EQUAL, LIMIT, OWN_WAY, REFUSED}
