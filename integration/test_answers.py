"""Answers are read as they are meant: by the TEMPLATE's tags, or by the PARSER that is named with it."""

import chat_templates
import parts
import pytest
from answers import Reader, answers, as_read, as_said
from talker import write_talker

from ollamaq.chat.answers import Calls, calls_in_answers
from ollamaq.chat.conversations import ASKED, WEATHER
from ollamaq.chat.derive import derive
from ollamaq.chat.features import THINKING, features
from ollamaq.chat.forms import jinja_form
from ollamaq.checkpoint import open_checkpoint
from ollamaq.convert import convert
from ollamaq.ollama.client import Client

PARSERS = {
    "Cohere2MoE": "cohere",
    "GLM-4.6": "laguna",
    "GLM-4.7-Flash": "glm-4.7",
    "LFM2.5-8B-A1B": "lfm2-thinking",
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": "nemotron-3-nano",
    "Qwen3-Coder": "qwen3-coder",
    "Qwen3.5-4B": "nemotron-3-nano",
    "Spark2.5": "glm-4.7",
    "StepFun3.5-Flash": "nemotron-3-nano",
    "deepseek-ai-DeepSeek-V3.1": "deepseek3",
    "google-gemma-4-31B-it": "gemma4",
    "google-gemma-4-31B-it-interleaved": "gemma4",
    "inclusionai-ling-3.0-flash": "glm-4.7",
    "mistralai-Ministral-3-14B-Reasoning-2512": "ministral",
    "muse-glimmer": "glimmer",
    "poolside-Laguna-S-2.1": "glm-4.7",
    "poolside-Laguna-XS-2.1": "glm-4.7",
    "poolside-Laguna-XS.2": "glm-4.7",
    "unsloth-mistral-Devstral-Small-2507": "ministral",
    **dict.fromkeys(
        ("Bielik-11B-v3.0-Instruct", "MiMo-VL", "Qwen-QwQ-32B", "Qwen-Qwen2.5-7B-Instruct", "Qwen-Qwen3-0.6B"), None
    ),
    **dict.fromkeys(("Reka-Edge", "ibm-granite-granite-4.0", "unsloth-Apriel-1.5"), None),
}
"""What reads the answers of a model's TEMPLATE; where it is None, that itself does."""
UNTYPED = "arguments of every kind"
"""By most parsers, those that are not of a property of the tool's are texts."""
ODD = {
    "StepFun3.5-Flash": {"text", "text beside tools", "call", "two calls", "text and call"},
    "Cohere2MoE": {"text and call"},
    "google-gemma-4-31B-it": {"text and call", UNTYPED},
    "google-gemma-4-31B-it-interleaved": {UNTYPED},
    "muse-glimmer": {"text and call"},
}
"""Answers that are not as these models would say them: their templates begin a thought whatever one asks for, leave out
the text before a call, go on with the call's result, or write Python's None.
"""
NOT_READ = ("moonshotai-Kimi-K2", "openai-gpt-oss-120b", "deepseek-ai-DeepSeek-V4")


@pytest.fixture(scope="module")
def read():
    with Reader() as reader:
        yield reader


def form(model):
    return jinja_form(model, chat_templates.chat_format((parts.chat_templates() / f"{model}.jinja").read_text()))


@pytest.mark.parametrize("model", PARSERS)
def test_ollama_reads_the_answers_that_a_chat_template_writes(model, read):
    trained = form(model)
    parser = PARSERS[model]
    assert calls_in_answers(trained) == Calls(parser, found=True)
    template = derive(trained.chat_format, bos=trained.bos).template
    given = list(answers(trained.chat_format, thinks=THINKING in features(trained)))
    found = {one.case: as_read(read(one, parser=parser, template=template)) for one in given}
    meant = {one.case: as_said(one.case) for one in given}
    odd = ODD.get(model, set())
    aside = {UNTYPED} | odd if parser else set()
    assert {case: found[case] for case in found if case not in aside} == {
        case: meant[case] for case in meant if case not in aside
    }
    assert {"text", "call", "two calls"} <= {*found}
    assert UNTYPED in odd or [name for name, _ in found[UNTYPED]["calls"]] == ["search"]


@pytest.mark.parametrize("model", NOT_READ)
def test_calls_that_nothing_reads_are_told(model, read):
    trained = form(model)
    assert calls_in_answers(trained) == Calls(None, found=False)


def test_a_server_that_is_given_a_template_and_a_parser_finds_the_calls(ollama_server, tmp_path):
    """The model says nothing but a call, in one token."""
    trained = form("GLM-4.7-Flash")
    said = "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Paris</arg_value></tool_call>"
    model = convert(open_checkpoint(write_talker(tmp_path / "talker", says=said)), "f32")
    template = derive(trained.chat_format, bos=trained.bos).template
    with Client(ollama_server) as client:
        for parser, calls in ((None, []), ("glm-4.7", [("get_weather", {"city": "Paris"})])):
            modelfile = {"template": template, "parser": parser}
            with chat_templates.served(client, "caller", model, tmp_path / "model.gguf", **modelfile):
                message = client.chat("caller", [ASKED], tools=[WEATHER], think=False)["message"]
                called = [call["function"] for call in message.get("tool_calls", ())]
                assert [(call["name"], call["arguments"]) for call in called] == calls
                assert message["content"] == ("" if parser else said)
