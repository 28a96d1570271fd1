"""What is written in a Modelfile is what Ollama reads in it; what cannot be written is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamaq.errors import UsageError
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.parser import parse
from ollamaq.modelfile.render import PARAMETERS, create_request, render


def read(text: str) -> list[tuple[str, str]]:
    return [
        (command.label if command.keyword == "MESSAGE" else command.name or command.keyword, command.value)
        for command in parse(text).commands
    ]


FULL = Modelfile(
    "./model.gguf",
    template="{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}",
    system='Say "yes".',
    parameters={"temperature": 0.6, "top_k": 40, "use_mmap": True, "stop": ["<|im_end|>", "\n\nUser:"]},
    licenses=("MIT", "Apache\n2.0 "),
    messages=(("user", "hi: there"), ("assistant", " hello")),
    renderer="qwen3-coder",
    parser="qwen3-coder",
    requires="0.30.0",
)


def test_a_modelfile_reads_back_as_it_was():
    assert read(render(FULL)) == [
        ("FROM", "./model.gguf"),
        ("TEMPLATE", FULL.template),
        ("RENDERER", "qwen3-coder"),
        ("PARSER", "qwen3-coder"),
        ("SYSTEM", 'Say "yes".'),
        ("temperature", "0.6"),
        ("top_k", "40"),
        ("use_mmap", "true"),
        ("stop", "<|im_end|>"),
        ("stop", "\n\nUser:"),
        ("MESSAGE user", "hi: there"),
        ("MESSAGE assistant", " hello"),
        ("LICENSE", "MIT"),
        ("LICENSE", "Apache\n2.0 "),
        ("REQUIRES", "0.30.0"),
    ]


def test_plain_values_are_written_without_quotes():
    modelfile = Modelfile("./model.gguf", system="You are kind.", parameters={"stop": ["<|im_end|>"]})
    assert render(modelfile) == "FROM ./model.gguf\nSYSTEM You are kind.\nPARAMETER stop <|im_end|>\n"


PIECES = ['"', '"""', "\n", " ", "\t", "\r", "#", "é", "x", "FROM y\n", "'", "\\n"]


@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
def test_any_text_reads_back_or_is_refused_for_its_quotes(text):
    modelfile = Modelfile("./model.gguf", system=text, parameters={"stop": [text]}, messages=(("user", text),))
    try:
        written = render(modelfile)
    except UsageError:
        assert re.search(r'"\s*[\r\n]', text)
        return
    system = [("SYSTEM", text)] if text else []
    assert read(written) == [("FROM", "./model.gguf"), *system, ("stop", text), ("MESSAGE user", text)]


@pytest.mark.parametrize("text", ['a"\nb"""\nc', 'x """\n"'])
def test_a_text_that_no_quotes_can_hold_is_refused(text):
    with pytest.raises(UsageError, match=r"SYSTEM .* cannot quote it"):
        render(Modelfile("./model.gguf", system=text))


@pytest.mark.parametrize("character", ["\u00a0", "\u200b", "\u200d", "\u3000", "\ufeff", "\u00ad", "\x00", "\ud800"])
def test_a_character_that_ollama_would_drop_is_refused_by_its_number(character):
    modelfile = Modelfile("./model.gguf", system=f"a{character}b")
    with pytest.raises(UsageError, match=f"SYSTEM .* U\\+{ord(character):04X}"):
        render(modelfile)


def test_a_request_says_everything_typed():
    assert create_request(FULL, "bot:1", {"model.gguf": "sha256:00"}) == {
        "model": "bot:1",
        "files": {"model.gguf": "sha256:00"},
        "template": FULL.template,
        "renderer": "qwen3-coder",
        "parser": "qwen3-coder",
        "system": 'Say "yes".',
        "parameters": {"temperature": 0.6, "top_k": 40, "use_mmap": True, "stop": ["<|im_end|>", "\n\nUser:"]},
        "messages": [{"role": "user", "content": "hi: there"}, {"role": "assistant", "content": " hello"}],
        "license": ["MIT", "Apache\n2.0 "],
        "requires": "0.30.0",
    }


def test_a_request_without_files_builds_on_a_model():
    modelfile = Modelfile("llama3.2", system="a\u00a0b", parameters={"stop": "x", "temperature": 1})
    assert create_request(modelfile, "bot", {}) == {
        "model": "bot",
        "from": "llama3.2",
        "system": "a\u00a0b",
        "parameters": {"stop": ["x"], "temperature": 1},
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parameters": {"temprature": 1}}, "unknown PARAMETER 'temprature'"),
        ({"parameters": {"mirostat": 1}}, "unknown PARAMETER 'mirostat'"),
        ({"parameters": {"temperature": "hot"}}, "temperature is 'hot', which is not a float"),
        ({"parameters": {"temperature": True}}, "temperature is True"),
        ({"parameters": {"temperature": float("nan")}}, "not a finite number"),
        ({"parameters": {"top_k": 1.5}}, "top_k is 1.5, which is not a int"),
        ({"parameters": {"num_ctx": True}}, "num_ctx is True"),
        ({"parameters": {"use_mmap": 1}}, "use_mmap is 1"),
        ({"parameters": {"stop": 3}}, "stop is 3, which is not a list of texts"),
        ({"messages": (("tool", "x"),)}, "unknown role 'tool'"),
        ({"requires": "newest"}, "REQUIRES 'newest' is not a version"),
    ],
)
@pytest.mark.parametrize("make", [render, lambda modelfile: create_request(modelfile, "bot", {})])
def test_what_ollama_would_refuse_or_ignore_is_refused(make, change, said):
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        make(Modelfile("./model.gguf", **change))
    assert refused.value.next_step


def test_every_parameter_of_ollama_has_a_type():
    assert set(PARAMETERS.values()) == {int, float, bool, list}
    assert "typical_p" not in PARAMETERS  # refused since 0.34
