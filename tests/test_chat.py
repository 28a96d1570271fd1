"""A chat template is rendered as transformers renders it, within bounds, and keeps its text behind the guard."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamaq.chat import sandbox
from ollamaq.chat.conversations import CONVERSATIONS
from ollamaq.chat.guard import GUARD, protect
from ollamaq.chat.jinja import ChatFormat, TemplateRefuses
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
    with pytest.raises(ModelRefused, match=r"the chat template fails, line 3: .*zero"):
        ChatFormat("{% if true %}\n\n{{ 1 // 0 }}\n{% endif %}").render(HELLO)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("one\n{% for %}", "the chat template fails, line 2: "),
        ("{% for a in [1] %}" * 25 + "{% endfor %}" * 25, "too many statically nested blocks"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "recursion"),
        ("{{ " + "9" * 9000 + " }}", "digits"),
    ],
    ids=["syntax", "nested loops", "nested brackets", "number"],
)
def test_a_template_that_cannot_be_compiled_is_refused(template, said):
    with pytest.raises(ModelRefused, match=said):
        ChatFormat(template)


def test_what_a_generation_mark_encloses_is_a_scope_of_its_own():
    template = "{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}-{{ x }}"
    assert ChatFormat(template).render(HELLO) == "1-"


@pytest.mark.parametrize("field", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_has_the_names_that_templates_read(field):
    messages = [{"role": "assistant", "content": "4", field: "2 + 2"}]
    template = "{{ messages[0].reasoning_content }}/{{ messages[0].thinking }}"
    assert ChatFormat(template).render(messages) == "2 + 2/2 + 2"


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
        "{{ namespace(__class__=1) }}",
        "{{ '{0.__class__.__mro__}'.format(messages) }}",
    ],
)
def test_a_template_reaches_nothing_outside_of_itself(template):
    with pytest.raises(ModelRefused):
        ChatFormat(template).render(HELLO)


GREEDY = {
    "text": "{% for i in range(90000) %}{{ 'x' * 1000 }}{% endfor %}",
    "text of the template": "{% for i in range(90000) %}" + "x" * 1000 + "{% endfor %}",
    "loops": "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
    "macros": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "times": "{{ 'a' * 10 ** 10 }}",
    "times, turned round": "{{ 10 ** 10 * 'a' }}",
    "a constant": "{% set x = 'a' * 10000000000 %}",
    "power": "{% set x = 2 ** 99999999 %}",
    "doubled by ~": "{% set n = namespace(x='aa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubled by +": "{% set n = namespace(x='aa') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "doubled by blocks": "{% macro m(s) %}{% set x %}{{ s }}{{ s }}{% endset %}{{ m(x) }}{% endmacro %}{{ m('aa') }}",
    "width of a filter": "{{ 'x' | center(10 ** 10) }}",
    "width of a method": "{{ 'x'.ljust(10 ** 10) }}",
    "width in a form": "{{ '%9999999999d' % 1 }}",
    "width for a form": "{{ '%*d' % (9999999999, 1) }}",
    "width for format": "{{ '{:{}}'.format(1, 9999999999) }}",
    "width of a date": "{{ strftime_now('%9999999999Y') }}",
    "replaced": "{% set a = 'a' * 1000000 %}{% set b = a.replace('a', a) %}",
    "joined": "{% set a = 'a' * 1000000 %}{% set b = a | join(a) %}",
    "shared lists": "{% set a = ['a' * 99] %}" + "{% set a = [a, a, a, a, a, a, a, a, a, a] %}" * 12 + "{{ a }}",
    "shared dictionaries": "{% set a = 'a' * 9 %}" + "{% set a = dict(a=a, b=a, c=a, d=a) %}" * 20 + "{{ a | upper }}",
}


@pytest.mark.parametrize("template", GREEDY.values(), ids=GREEDY.keys())
def test_a_template_gets_no_more_than_its_share_of_time_and_text(template, monkeypatch):
    monkeypatch.setattr(sandbox, "MAX_STEPS", 500_000)
    monkeypatch.setattr(sandbox, "MAX_WEIGHT", 2_000_000)
    with pytest.raises(ModelRefused, match=r"line 1: (it takes more than|the form of a date)"):
        ChatFormat(template).render(HELLO)


def test_a_template_gets_no_more_than_its_seconds(monkeypatch):
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.01)
    with pytest.raises(ModelRefused, match="it takes more than"):
        ChatFormat(GREEDY["loops"]).render(HELLO)


def test_endless_recursion_is_refused():
    with pytest.raises(ModelRefused, match="line 1: maximum recursion depth"):
        ChatFormat("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").render(HELLO)


def test_long_conversations_and_big_numbers_are_within_bounds():
    messages = [{"role": "user", "content": "word " * 2000, "call": {"at": 1_700_000_000}}] * 200
    template = (
        "{% set kept = namespace(all=[]) %}{% for m in messages %}{% set kept.all = kept.all + [m] %}"
        "{{ m.content.strip().split('</think>')[-1].replace('<', '&lt;') }}{{ m.call | tojson }}{% endfor %}"
        "{{ kept.all | length }}"
    )
    assert ChatFormat(template).render(messages).endswith('word{"at": 1700000000}200')


FRAGMENTS = ["text", " ", "\t", "\n", "\r\n", "\u00a0", "{% if true %}", "{%- if true -%}", "{%+ if true %}"]
FRAGMENTS += [
    "{# note #}",
    "{#- note -#}",
    "{#+ note +#}",
    "{{ 1 }}",
    "{{- 1 -}}",
    "{{+ 1 }}",
    "{% raw %} {{ {% endraw %}",
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=6))
def test_the_guard_changes_no_character_of_a_prompt(fragments):
    template = "".join(fragments) + "{% endif %}" * sum("if true" in fragment for fragment in fragments)
    assert ChatFormat(protect(template)).render(HELLO) == ChatFormat(template).render(HELLO)


def test_the_guard_is_longer_than_ollamas_distance_and_put_up_once():
    assert len(GUARD) >= 140
    assert protect(protect(CHATML)) == protect(CHATML) == GUARD + CHATML


def test_every_conversation_begins_with_a_system_message_or_the_user():
    for messages in CONVERSATIONS.values():
        assert messages[0]["role"] in ("system", "user")
        assert messages[-1]["role"] == "user"


def test_the_special_tokens_of_a_checkpoint_can_be_named(tiny_checkpoint):
    template = "{{ bos_token }}|{{ eos_token }}|{{ unk_token }}"
    config = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "unk_token": None, "chat_template": template}
    path = tiny_checkpoint(tokenizer_config=config)
    assert ChatFormat.of(open_checkpoint(path)).render(HELLO) == "<s>|</s>|"


def test_a_checkpoint_without_a_template_has_no_chat_format(tiny_checkpoint):
    assert ChatFormat.of(open_checkpoint(tiny_checkpoint(tokenizer_config={"chat_template": None}))) is None
