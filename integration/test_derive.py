"""TEMPLATEs derived from the chat templates of real models, rendered by Ollama's own package and by its server."""

import subprocess
import sys

import parts
import pytest
from gotemplates import differ

from ollamaq.chat.conversations import SUITE
from ollamaq.chat.derive import derive
from ollamaq.chat.forms import go_form, jinja_form, ollama_messages, open_form
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.prove import prove
from ollamaq.ollama.client import Client
from ollamaq.ollama.host import parse_host

MODELS = (
    *("CohereForAI-c4ai-command-r7b-12-2024-tool_use", "GLM-4.6", "HuggingFaceTB-SmolLM3-3B", "Kimi-K2-Instruct"),
    *("LFM2-8B-A1B", "MiniMax-M1", "Mistral-Small-3.2-24B-Instruct-2506", "NVIDIA-Nemotron-Nano-v2", "Qwen3-Coder"),
    *("Qwen-Qwen2.5-7B-Instruct", "Qwen-Qwen3-0.6B", "deepseek-ai-DeepSeek-R1-Distill-Llama-8B"),
    *("deepseek-ai-DeepSeek-V3.1", "deepseek-ai-DeepSeek-V4", "google-gemma-2-2b-it", "ibm-granite-granite-4.0"),
    *("meta-llama-Llama-3.1-8B-Instruct", "microsoft-Phi-3.5-mini-instruct", "moonshotai-Kimi-K2"),
    *("unsloth-mistral-Devstral-Small-2507", "upstage-Solar-Open-100B"),
    *("Bielik-11B-v3.0-Instruct", "Cohere2MoE", "Reka-Edge", "tencent-Hy3", "LFM2.5-8B-A1B"),
    *("openbmb-MiniCPM5-1B", "meetkai-functionary-medium-v3.1"),
)


ODD_TOOLS = ("google-gemma-4-31B-it", "google-gemma-4-31B-it-interleaved")
"""That of these models renders all tools but those whose types are lists, or whose properties are called as keys."""


def chat_format(model: str) -> ChatFormat:
    text = (parts.chat_templates() / f"{model}.jinja").read_text()
    return ChatFormat(text, {"bos_token": "<s>", "eos_token": "</s>"})


@pytest.mark.parametrize("model", MODELS + ODD_TOOLS)
def test_the_derived_template_prompts_as_the_models_own(model, ollama_package):
    original = chat_format(model)
    derived = derive(original, bos="<s>")
    assert derived.without.keys() == ({"some tools"} if model in ODD_TOOLS else set())
    proof = prove(jinja_form(model, original), go_form("derived", derived.template), random=60)
    assert proof.counterexample is None
    assert proof.holds
    questions = [
        {
            "template": derived.template,
            "chat": {"messages": ollama_messages(chat), "tools": chat.tools, "think": chat.think},
        }
        for chat in SUITE.values()
    ]
    assert not [found for question in questions if (found := differ(question, ollama_package(question)))]


def test_a_server_renders_a_derived_template_and_knows_what_the_model_can_do(ollama_server, tmp_path):
    original = chat_format("Qwen-Qwen3-0.6B")
    template = derive(original, bos="<s>").template
    (tmp_path / "Modelfile").write_text(f'FROM {parts.smollm2_gguf()}\nTEMPLATE """{template}"""\n')
    name = "derived-of-qwen3"
    with Client(parse_host(ollama_server)) as client:
        made = subprocess.run(
            [str(parts.ollama() / "bin" / "ollama"), "create", name, "-f", str(tmp_path / "Modelfile")],
            env={"OLLAMA_HOST": ollama_server, "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stderr
        try:
            assert {"completion", "tools", "thinking"} <= set(client.show(name)["capabilities"])
            said = [chat for chat in SUITE.values() if chat.think is not None]
            form = open_form(name, ollama_server)
            proof = prove(
                jinja_form("Qwen3", original),
                form,
                random=0,
                chats={str(at): chat for at, chat in enumerate(said)},
            )
            assert proof.counterexample is None
            assert proof.holds
        finally:
            client.delete(name)


def test_the_command_derives_from_a_directory(smollm2, tmp_path):
    line = [sys.executable, "-m", "ollamaq", "template", "derive", smollm2(576), "-o", tmp_path / "chat.gotmpl"]
    told = subprocess.run([*line, "--random", "30"], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "SmolLM, trained by Hugging Face<|im_end|>" in (tmp_path / "chat.gotmpl").read_text()
