"""The PARSER that a TEMPLATE needs is found by how the chat template writes a call of a tool."""

import pytest

from ollamaq.chat.answers import READERS, calls_in_answers
from ollamaq.chat.forms import jinja_form
from ollamaq.chat.jinja import ChatFormat
from ollamaq.modelfile.lint.template import PARSERS

CALLS = {
    '{"name": "get_weather", "arguments": {"city": "Paris"}}': (None, None),
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis": ("qwen3-coder", "nemotron-3-nano"),
    "<tool_call>get_weather\n<arg_key>city</arg_key>": (None, "glm-4.7"),
    "<|tool_call_start|>[get_weather(city='Paris')]": ("lfm2", "lfm2-thinking"),
    "[TOOL_CALLS]get_weather[ARGS]{": ("ministral", None),
    "call get_weather city": (None, None),
}
"""Their PARSER where a model does not think, and where its prompt begins a thought."""


def form(call, *, thinks):
    opened = "{% if enable_thinking %}{{ '<think>' }}{% endif %}" if thinks else ""
    called = f"{{% if m.tool_calls %}}{{{{ {call!r} }}}}{{% endif %}}"
    return jinja_form("x", ChatFormat(f"{{% for m in messages %}}{{{{ m.content }}}}{called}{{% endfor %}}{opened}"))


@pytest.mark.parametrize("call", CALLS)
def test_a_parser_is_named_where_one_reads_the_form_and_thinks_as_the_model_does(call):
    assert tuple(calls_in_answers(form(call, thinks=thinks)).parser for thinks in (False, True)) == CALLS[call]


def test_what_nothing_finds_is_known():
    assert calls_in_answers(form('{"name": "get_weather"', thinks=False)).found
    assert calls_in_answers(form("[TOOL_CALLS]get_weather[ARGS]{", thinks=False)).found
    assert not calls_in_answers(form("call get_weather city", thinks=False)).found
    assert not calls_in_answers(form('calling {"name": "get_weather"', thinks=False)).found
    assert calls_in_answers(form('<call>{"name": "get_weather"', thinks=False)).found
    assert calls_in_answers(jinja_form("x", ChatFormat("{{ messages[0].content }}"))).found


def test_the_parsers_are_ollamas():
    assert {reader.parser for reader in READERS} <= PARSERS
