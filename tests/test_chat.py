"""A chat template is rendered as transformers renders it, within bounds, and keeps its text behind the guard."""

import json

import pytest

from ollamaq.chat.conversations import CONVERSATIONS
from ollamaq.chat.guard import GUARD, protect
from ollamaq.chat.jinja import ChatFormat, TemplateRefuses
from ollamaq.chat.stops import Stop, stop_tokens
from ollamaq.checkpoint import open_checkpoint
from ollamaq.errors import ModelRefused

HELLO = [{"role": "user", "content": "Hello"}]

CHATML = """{% for message in messages %}
    {% if loop.first and message['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


def test_blocks_are_trimmed_as_in_transformers():
    prompt = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert ChatFormat(CHATML).render(HELLO) == prompt
    assert ChatFormat(CHATML).render(HELLO, add_generation_prompt=False) == prompt.removesuffix(
        "<|im_start|>assistant\n"
    )


def test_special_tokens_loop_controls_and_generation_marks_work():
    template = (
        "{{ bos_token }}{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
        "{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}{{ eos_token }}"
    )
    assert ChatFormat(template, {"bos_token": "<s>", "eos_token": "</s>"}).render(HELLO * 2) == "<s>Hello</s>"


def test_json_is_written_as_transformers_writes_it():
    template = "{{ messages[0].content | tojson }}{{ tools | tojson(indent=1) }}"
    messages = [{"role": "user", "content": "<é> & 'x'"}]
    expected = json.dumps("<é> & 'x'", ensure_ascii=False) + json.dumps([{"b": 1, "a": 2}], indent=1)
    assert ChatFormat(template).render(messages, tools=[{"b": 1, "a": 2}]) == expected


def test_a_template_that_refuses_is_told_from_one_that_fails():
    with pytest.raises(TemplateRefuses, match="roles must alternate"):
        ChatFormat("{{ raise_exception('roles must alternate') }}").render(HELLO)
    with pytest.raises(ModelRefused, match=r"the chat template fails: .*zero"):
        ChatFormat("{{ 1 // 0 }}").render(HELLO)


def test_a_template_that_is_not_jinja_is_refused_with_its_line():
    with pytest.raises(ModelRefused, match="the chat template fails, line 2: "):
        ChatFormat("one\n{% for %}")


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{% set _ = messages[0].update({'content': 'x'}) %}",
        "{% include '/etc/passwd' %}",
        "{{ range(999999999) | list }}",
    ],
)
def test_a_template_reaches_nothing_outside_of_itself(template):
    with pytest.raises(ModelRefused):
        ChatFormat(template).render(HELLO)


def test_endless_output_is_cut_off():
    with pytest.raises(ModelRefused, match="goes on beyond"):
        ChatFormat("{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}").render(HELLO)


BEGINNINGS = [
    "",
    "text ",
    " \n text",
    "\n\n",
    "\t",
    "\n  {% if true %}\n",
    "  {# note #}\n",
    "\n {%- if true -%} ",
    "\n{{- 1 }}",
]


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("rest", ["{{ messages[0].content }}", "\n  {{ messages[0].content }}\n"])
def test_the_guard_changes_no_character_of_a_prompt(beginning, rest):
    end = "{% endif %}" if "if true" in beginning else ""
    template = beginning + rest + end
    assert ChatFormat(protect(template)).render(HELLO) == ChatFormat(template).render(HELLO)


def test_the_guard_is_longer_than_ollamas_distance_and_put_up_once():
    assert len(GUARD) >= 140
    assert protect(protect(CHATML)) == protect(CHATML) == GUARD + CHATML


def test_every_conversation_begins_with_a_system_message_or_the_user():
    for messages in CONVERSATIONS.values():
        assert messages[0]["role"] in ("system", "user")
        assert messages[-1]["role"] == "user"


def stops(path):
    return stop_tokens(open_checkpoint(path))


def test_the_token_behind_an_answer_comes_first(tiny_checkpoint):
    path = tiny_checkpoint(generation_config={"eos_token_id": [0, 2]}, tokenizer_config={"eos_token": "<|endoftext|>"})
    assert stops(path) == (Stop("<|im_end|>", "chat template"), Stop("<|endoftext|>", "generation_config.json"))


def test_a_config_that_points_at_a_word_stops_nothing(tiny_checkpoint):
    template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    path = tiny_checkpoint(
        config={"eos_token_id": 70},
        generation_config={"eos_token_id": 71},
        tokenizer_config={"eos_token": "e", "chat_template": template},
    )
    assert stops(path) == ()


def test_a_special_token_of_tokenizer_config_may_be_a_dictionary(tiny_checkpoint):
    path = tiny_checkpoint(tokenizer_config={"eos_token": {"content": "<|im_end|>"}, "chat_template": None})
    assert stops(path)[0] == Stop("<|im_end|>", "generation_config.json")
    assert ChatFormat.of(open_checkpoint(path)) is None
