"""The embedded engine runs what is in the store, with the Modelfile's settings, and prompts it as llama.cpp does."""

import pytest
from gguf import GGUFValueType

from ollamaq.chat.jinja import ChatFormat
from ollamaq.checkpoint import open_checkpoint
from ollamaq.errors import ServerError
from ollamaq.files import sha256_of
from ollamaq.gguf.model import Model, Value
from ollamaq.gguf.writer import write
from ollamaq.modelfile.model import Modelfile
from ollamaq.publish import plan_releases
from ollamaq.quantize import write_plan
from ollamaq.servers.embedded import Embedded
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


def test_the_modelfiles_system_prompt_is_used_where_there_is_none(engine, gguf):
    create(engine, gguf, system="Be brief.")
    assert "<|im_start|>system\nBe brief.<|im_end|>" in engine.render("bot", HELLO)
    other = [{"role": "system", "content": "Be long."}, *HELLO]
    assert "Be brief." not in engine.render("bot", other)


def test_the_modelfiles_parameters_hold_unless_they_are_overridden(engine, gguf):
    create(engine, gguf, parameters={"num_predict": 2})
    assert engine.chat("bot", HELLO, {"temperature": 0}).answer_tokens <= 2
    assert engine.chat("bot", HELLO, {"temperature": 0, "num_predict": 1}).answer_tokens == 1


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
