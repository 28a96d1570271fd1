"""The embedded engine runs what is in the store, with the Modelfile's settings, and prompts it as llama.cpp does."""

import json
import sys
from types import SimpleNamespace

import pytest
from gguf import GGUFValueType

from ollamaq.chat.jinja import ChatFormat
from ollamaq.checkpoint import open_checkpoint
from ollamaq.errors import ServerError, ToolchainError
from ollamaq.files import sha256_of
from ollamaq.gguf.model import Model, Value
from ollamaq.gguf.reader import read_gguf
from ollamaq.gguf.writer import write
from ollamaq.modelfile.model import Modelfile
from ollamaq.publishing import plan_releases
from ollamaq.quantize import write_plan
from ollamaq.servers.embedded import Embedded
from ollamaq.servers.target import Reply, ToolCall, Unsupported
from ollamaq.smoke.tokens import tokenizer_of
from ollamaq.source import open_source

GREEDY = {"temperature": 0, "seed": 0, "num_predict": 6}
HELLO = [{"role": "user", "content": "Hello there"}]


@pytest.fixture
def checkpoint(tiny_checkpoint):
    return tiny_checkpoint()


@pytest.fixture
def gguf(checkpoint, tmp_path):
    (planned,) = plan_releases(open_source(checkpoint), quantization="Q8_0")
    write_plan(tmp_path / "model.gguf", planned.plan)
    return tmp_path / "model.gguf"


@pytest.fixture
def engine(tmp_path):
    with Embedded(tmp_path / "models") as engine:
        yield engine


def create(engine, gguf, name="bot", **settings):
    return engine.create(name, gguf, sha256_of(gguf), Modelfile("./model.gguf", **settings), lambda *step: None)


def test_a_model_answers_and_is_prompted_as_in_training(engine, gguf, checkpoint):
    assert create(engine, gguf)
    reply = engine.chat("bot", HELLO, GREEDY)
    assert reply.done_reason in ("stop", "length")
    assert 0 < reply.answer_tokens <= 6
    prompt = ChatFormat.of(open_checkpoint(checkpoint)).render(HELLO)
    assert engine.render("bot", HELLO) == prompt


def test_token_ids_are_those_of_training(engine, gguf, checkpoint):
    pytest.importorskip("tokenizers")
    create(engine, gguf)
    text = "<|im_start|>user\nParis, 42!<|im_end|>\n"
    assert engine.tokenize("bot", text) == tokenizer_of(checkpoint)(text)


def test_the_modelfiles_system_prompt_is_used_where_there_is_none(engine, gguf):
    create(engine, gguf, system="Be brief.")
    assert "<|im_start|>system\nBe brief.<|im_end|>" in engine.render("bot", HELLO)
    other = [{"role": "system", "content": "Be long."}, *HELLO]
    assert "Be brief." not in engine.render("bot", other)


def test_the_modelfiles_parameters_hold_unless_they_are_overridden(engine, gguf):
    create(engine, gguf, parameters={"num_predict": 2})
    assert engine.chat("bot", HELLO, {"temperature": 0}).answer_tokens <= 2
    assert engine.chat("bot", HELLO, {"temperature": 0, "num_predict": 1}).answer_tokens == 1


def test_what_the_modelfile_does_not_set_is_as_in_ollama(engine, gguf, monkeypatch):
    create(engine, gguf, parameters={"top_k": 7, "stop": ["x", "y"], "num_ctx": 256, "num_predict": 9})
    asked = []
    answer = {
        "choices": [{"finish_reason": "stop", "message": {"content": None}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 0},
    }
    server = SimpleNamespace(handle_chat_completions=lambda request: asked.append(request) or answer)
    monkeypatch.setattr(engine, "_server", lambda name: server)
    assert engine.chat("bot", HELLO, {"temperature": 0}) == Reply("", "stop", 3, 0, 0.0)
    (request,) = asked
    assert request["messages"] == HELLO
    assert (request["temperature"], request["top_k"], request["top_p"], request["min_p"]) == (0, 7, 0.9, 0.0)
    assert (request["stop"], request["max_tokens"]) == (["x", "y"], 9)
    assert "num_ctx" not in request


def test_an_answer_tells_how_fast_it_came(engine, gguf):
    create(engine, gguf)
    reply = engine.chat("bot", HELLO, GREEDY)
    assert reply.first_token > 0
    assert reply.tokens_per_second > 0


def test_an_answer_is_held_to_a_json_schema(engine, gguf):
    create(engine, gguf)
    schema = {"type": "object", "properties": {"a": {"enum": [7]}}, "required": ["a"], "additionalProperties": False}
    reply = engine.chat("bot", HELLO, GREEDY | {"num_predict": 60}, format=schema)
    assert json.loads(reply.text) == {"a": 7}


def test_tools_thinking_and_json_are_asked_for_in_the_engines_words_and_answered_in_ours(engine, gguf, monkeypatch):
    create(engine, gguf)
    asked = []
    call = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    message = {"content": None, "reasoning_content": "Hm.", "tool_calls": [call]}
    answer = {
        "choices": [{"finish_reason": "tool_calls", "message": message}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5},
    }
    server = SimpleNamespace(handle_chat_completions=lambda request: asked.append(request) or answer)
    monkeypatch.setattr(engine, "_server", lambda name: server)
    reply = engine.chat("bot", HELLO, GREEDY, tools=[{"type": "function"}], format="json", think=False)
    assert (reply.done_reason, reply.thinking) == ("stop", "Hm.")
    assert reply.tool_calls == (ToolCall("weather", {"city": "Paris"}),)
    (request,) = asked
    assert request["tools"] == [{"type": "function"}]
    assert request["response_format"] == {"type": "json_object"}
    assert request["chat_template_kwargs"] == {"enable_thinking": False}


def test_texts_are_embedded_and_then_it_chats_again(engine, gguf, tmp_path):
    model = read_gguf(gguf)
    pooled = tmp_path / "pooled.gguf"
    mean = Value(GGUFValueType.UINT32, 1)
    write(pooled, Model(model.metadata | {"llama.pooling_type": mean}, model.tensors))
    create(engine, pooled)
    a, b = engine.embed("bot", ["Hello there", "Paris"])
    assert (len(a), len(b)) == (256, 256)
    assert a != b
    assert engine.chat("bot", HELLO, GREEDY).answer_tokens


def test_a_model_that_does_not_embed_is_said_to_refuse(engine, gguf):
    create(engine, gguf)
    with pytest.raises(ServerError, match="bot does not embed: its GGUF has no pooling_type"):
        engine.embed("bot", ["Paris"])


def test_memory_is_not_told(engine, gguf):
    create(engine, gguf)
    with pytest.raises(Unsupported, match="does not tell what memory"):
        engine.loaded("bot")


def test_a_context_of_the_modelfiles_own_is_used(engine, gguf):
    create(engine, gguf, parameters={"num_ctx": 256})
    with pytest.raises(ServerError, match="exceeds the available context size"):
        engine.chat("bot", [{"role": "user", "content": "Paris " * 300}], GREEDY)


def test_the_modelfiles_messages_come_before_the_conversation(engine, gguf):
    create(engine, gguf, system="Be brief.", messages=(("user", "Hi"), ("assistant", "Ho")))
    said = [part.partition("<|im_end|>")[0] for part in engine.render("bot", HELLO).split("<|im_start|>")[1:]]
    assert said == ["system\nBe brief.", "user\nHi", "assistant\nHo", "user\nHello there", "assistant\n"]


def test_a_template_of_ollamas_own_language_is_not_pretended_to(engine, gguf):
    create(engine, gguf, template="{{ .Prompt }}")
    assert engine.template("bot") == "{{ .Prompt }}"
    with pytest.raises(ServerError, match="has a TEMPLATE in Ollama's own language"):
        engine.render("bot", HELLO)


def test_a_model_is_loaded_once_whatever_its_names_and_anew_when_it_has_changed(engine, gguf, monkeypatch):
    loaded = []
    monkeypatch.setattr("xllamacpp.Server", lambda parameters: loaded.append(parameters) or SimpleNamespace())
    monkeypatch.setattr(engine, "_get_going", lambda server: None)
    create(engine, gguf, "one")
    engine.copy("one", "two")
    for name in ("one", "two", "one"):
        engine._server(name)
    assert len(loaded) == 1
    create(engine, gguf, "one", parameters={"num_ctx": 256})
    engine._server("one")
    assert [parameters.n_ctx for parameters in loaded] == [4096, 256]


def test_what_the_engine_refuses_is_said_in_its_words(engine, gguf):
    create(engine, gguf)
    with pytest.raises(ServerError, match=r"the embedded engine refuses: .*'temperature'"):
        engine.chat("bot", HELLO, {"temperature": "warm"})
    with pytest.raises(ServerError, match=r"the embedded engine refuses: .*role"):
        engine.render("bot", [{"content": "Hello"}])


def test_nothing_is_written_to_the_terminal(engine, gguf, capfd):
    create(engine, gguf)
    engine.chat("bot", HELLO, GREEDY)
    assert capfd.readouterr() == ("", "")


def test_an_engine_that_is_not_installed_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ToolchainError, match="the embedded engine cannot be used") as failure, Embedded(tmp_path):
        pass
    assert failure.value.next_step == "pip install 'ollamaq[embedded]'"


def test_the_same_gguf_is_kept_once(engine, gguf):
    assert create(engine, gguf, "one") is True
    assert create(engine, gguf, "two") is False
    engine.delete("one")
    assert engine.digest("one") is None
    assert engine.chat("two", HELLO, GREEDY).answer_tokens


def test_the_template_is_that_of_the_gguf(engine, gguf, checkpoint):
    create(engine, gguf)
    assert engine.template("bot").endswith(open_checkpoint(checkpoint).chat_template)


def test_a_file_that_llama_cpp_cannot_load_is_said(engine, tmp_path):
    broken = tmp_path / "broken.gguf"
    write(broken, Model({"general.architecture": Value(GGUFValueType.STRING, "llama")}, ()))
    create(engine, broken, "broken")
    with pytest.raises(ServerError, match=r"llama\.cpp cannot load broken"):
        engine.chat("broken", HELLO, GREEDY)
