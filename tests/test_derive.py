"""Go TEMPLATEs derived from chat templates: the prompts of both are equal, or it is told where they are not."""

import json

import pytest
from typer.testing import CliRunner

from ollamaq.chat.carried import MERGED, NUMBERS, REORDERED, SORTED, carried
from ollamaq.chat.compare import DIFFERS, EQUAL, LIMIT, compared
from ollamaq.chat.conversations import (
    ASKED,
    CLOCK,
    KINDS,
    SEARCH,
    SUITE,
    WEATHER,
    Conversation,
    assistant,
    call,
    system,
    tool,
    user,
)
from ollamaq.chat.derive import CannotDerive, derive
from ollamaq.chat.derive.tags import tagged, think_tags, tool_tag
from ollamaq.chat.forms import go_form, jinja_form
from ollamaq.chat.gotemplate import GoTemplate
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.prove import prove
from ollamaq.chat.random_conversations import constants, conversations
from ollamaq.chat.selection import TOOLS as TOOLS_CLAIM
from ollamaq.chat.selection import claims_of_go, jinja_wins
from ollamaq.cli import app

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
BOS_EACH_TURN = """{%- if messages[0]['role'] == 'system' -%}
  {%- set rest = messages[1:] %}{% set told = messages[0]['content'] -%}
{%- else %}{% set rest = messages %}{% set told = false %}{% endif -%}
{%- for message in rest -%}
  {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no') }}{% endif -%}
  {%- if loop.index0 == 0 and told != false -%}
    {%- set content = '<<SYS>>\\n' + told + '\\n<</SYS>>\\n\\n' + message['content'] -%}
  {%- else %}{% set content = message['content'] %}{% endif -%}
  {%- if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
  {%- elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif -%}
{%- endfor -%}"""
BOS_IN_A_VARIABLE = """{% for message in messages %}
{%- set content = '<|h|>' + message['role'] + '<|/h|>\n\n' + message['content'] | trim + '<|e|>' -%}
{%- if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor -%}
{%- if add_generation_prompt %}{{ '<|h|>assistant<|/h|>\n\n' }}{% endif %}"""
THINKING = """{%- set ns = namespace(last=-1) -%}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor -%}
{%- for m in messages -%}
  {%- set content = m.content if m.content is string else '' -%}
  {%- set thought = '' -%}
  {%- if m.reasoning_content is string %}{% set thought = m.reasoning_content -%}
  {%- elif '</think>' in content -%}
    {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') -%}
    {%- set content = content.split('</think>')[-1].lstrip('\n') -%}
  {%- endif -%}
  {{- '<' + m.role + '>' -}}
  {%- if m.role == 'assistant' and loop.index0 > ns.last and thought -%}
    {{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' -}}
  {%- endif -%}
  {{- content + '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<assistant>' }}
  {%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}
{%- endif -%}"""
TOOLS = """{%- if tools -%}
  {{- 'Tools:' }}{% for tool in tools %}{{ '\n' + tool | tojson }}{% endfor %}{{ '\n' -}}
{%- endif -%}
{%- for m in messages -%}
  {{- '<' + m.role + '>' -}}
  {%- if m.role == 'tool' and (loop.first or loop.previtem.role != 'tool') %}{{ '[results]' }}{% endif -%}
  {{- m.content -}}
  {%- for c in m.tool_calls or [] -%}
    {{- '<tool_call>\n{"name": "' + c.function.name + '", "arguments": ' + c.function.arguments | tojson + '}' -}}
    {{- '</tool_call>' if loop.last else ', ' -}}
  {%- endfor -%}
  {{- '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}"""
BY_ARGUMENT = """{%- for m in messages -%}
  {{- '<' + m.role + '>' + m.content | trim -}}
  {%- for c in m.tool_calls or [] -%}
    {%- for name, value in c.function.arguments.items() -%}
      {{- name + '=' }}{{ value if value is string else value | tojson }}{{ ';' -}}
    {%- endfor -%}
  {%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<assistant>' }}{% endif -%}"""
INDENTED = """{%- if tools -%}{% for tool in tools %}{{ tool | tojson(indent=4) }}{% endfor %}{%- endif -%}
{%- for m in messages %}{{ m.content }}{% endfor -%}"""
PYTHONIC = """{%- for m in messages %}{{ m.role + ':' + m.content }}
  {%- for c in m.tool_calls or [] -%}
    {%- for k, v in c.function.arguments.items() %}{{ k ~ '=' ~ v }}{% endfor -%}
  {%- endfor -%}
{%- endfor -%}
{%- for tool in tools or [] %}{{ tool | string }}{% endfor %}"""
LISTED = """{%- set ns = namespace(told=[], names=[]) -%}
{%- for m in messages -%}
  {%- if m.role == 'system' %}{% set ns.told = ns.told + [m.content] %}{% endif -%}
  {%- if m.role not in ns.names %}{% set ns.names = ns.names + [m.role] %}{% endif -%}
{%- endfor -%}
{{- ns.names | join('/') }}{% for text in ns.told %}{{ loop.index ~ '. ' + text + '\n' }}{% endfor -%}
{%- for i in range(messages | length - 1, -1, -1) %}{{ messages[i].role ~ i }},{% endfor -%}
{{- messages[0].content | length if messages[0].role != 'assistant' -}}
{%- for line in messages[-1].content.split('\n') %}{{ '> ' + line }}{{ '|' if not loop.last }}{% endfor %}"""
PARTS = """{%- set tag = '<{}:{{{}}}>'.format('said', 'here') -%}
{%- for m in messages -%}
  {%- if m.role == 'assistant' %}{{ m.content }}{% else -%}
  {{- tag + m.role + '<{0}{0}>'.format(m.content) -}}
  {%- if m.content and m.content[0].type == 'image' %}{{ 'never' }}{% endif -%}
  {{- '[' + m.content[:3] + '|' + m.content[2:] + '|' + m.content[1:4] + '|' + (m.content[0] or '') + ']' -}}
  {{- m.content[:(m.content | length) - 5] if m.content.endswith('</a>x') -}}
  {%- if '</think>' in m.content %}{{ m.content.split('</think>')[1:] | join('</think>') }}{% endif -%}
  {%- for part in m.content.split('<think>')[1:] %}{{ '~' + part }}{% endfor -%}
  {%- endif -%}
{%- endfor -%}"""
ADDED_UP = """{%- macro said(content) %}{{ content | trim }}{% endmacro -%}
{%- set ns = namespace(out='') -%}
{%- if tools or messages[0].role == 'system' -%}
  {%- set head = namespace(text='') -%}
  {%- if messages[0].role == 'system' %}{% set head.text = messages[0].content ~ '.' %}{% endif -%}
  {%- if tools -%}
    {%- set head.text = head.text ~ '\n' if head.text else 'Tools:' -%}
    {%- for tool in tools %}{% set head.text = head.text ~ tool | tojson(ensure_ascii=True) %}{% endfor -%}
  {%- endif -%}
  {%- set ns.out = ns.out ~ head.text ~ '<sep>' -%}
{%- endif -%}
{%- for at in range(0, messages | length) -%}
  {%- set m = messages[at] -%}
  {%- if m.role == 'assistant' -%}
    {%- set content = said(m.content) -%}
    {%- set ns.out = ns.out ~ 'it: ' ~ content -%}
    {%- if content and not ns.out.endswith('x') %}{% set ns.out = ns.out ~ '!' %}{% endif -%}
    {%- for c in m.tool_calls or [] -%}
      {%- set ns.out = ns.out ~ {'called': c.function.name, 'ü🙂': c.function.arguments} | tojson(ensure_ascii=True) -%}
    {%- endfor -%}
  {%- else -%}
    {%- set ns.out = ns.out ~ m.role ~ ': ' ~ said(m.content) ~ m.content | tojson(ensure_ascii=True) -%}
  {%- endif -%}
  {%- set ns.out = ns.out ~ '<sep>' -%}
{%- endfor -%}
{%- if add_generation_prompt %}{% set ns.out = ns.out ~ 'it:' %}{% endif -%}
{{- ns.out -}}"""
LAST_CALLS = """{%- set state = namespace(calls=none, said=none, never=none, at=0) -%}
{%- for m in messages -%}
  {%- if m.role == 'assistant' -%}
    {%- set state.calls = m.get('tool_calls') -%}{% set state.said = m.content %}{% set state.at = 0 -%}
  {%- elif m.role == 'user' %}{% set state.never = none %}{% set state.calls = none -%}
  {%- elif m.role == 'tool' and state.calls is not none and state.at < state.calls | length -%}
    {{- '(' + state.calls[state.at].function.name + ')' }}{% set state.at = state.at + 1 -%}
    {%- for c in state.calls %}{{ c.function.name }},{% endfor -%}
  {%- endif -%}
  {{- m.role + ': ' + m.content + '\n' -}}
  {%- for x in state.never or [] %}{{ x.y[3] }}{% endfor -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ state.said or 'nothing yet' }}{% endif %}"""
RESULTS_IN_A_LIST = """{%- for t in tools or [] %}{{ [t] | map('upper') }}{% endfor -%}
{%- for m in messages -%}
  {%- if m.role == 'tool' -%}
    {%- set run = namespace(found=[]) -%}
    {%- for one in messages[loop.index0:] %}{% set run.found = run.found + [one] %}{% endfor -%}
    {%- for one in run.found %}{{ one.content }}{% endfor -%}
  {%- else %}{{ m.role + ': ' + m.content + '\n' }}{% endif -%}
{%- endfor -%}"""
GATHERED = """{%- macro shown(value) %}{{ "'" + value + "'" if value is string else value | tojson }}{% endmacro -%}
{%- for m in messages -%}
  {{- m.role + ': ' + m.content -}}
  {%- set all = namespace(calls=[]) -%}
  {%- for c in m.tool_calls or [] -%}
    {%- set own = namespace(args=[]) -%}
    {%- for name, value in c.function.arguments.items() -%}
      {%- set own.args = own.args + [name + '=' + shown(value)] -%}
      {%- if value is string and ('<' in value or '\n' in value) %}{{ '(marked up)' }}{% endif -%}
    {%- endfor -%}
    {%- set all.calls = all.calls + [c.function.name + '(' + own.args | join(', ') + ')'] -%}
  {%- endfor -%}
  {{- '[' + all.calls | join('; ') + ']\n' -}}
{%- endfor -%}"""
IN_A_PLACE = """{%- if tools -%}
  {%- set told %}{{ '\n# Tools' }}{% for t in tools %}{{ '\n' + t | tojson }}{% endfor %}{{ '</>\n' }}{% endset -%}
  {%- if '<think>' in messages[0].content -%}
    {{- messages[0].content.replace('<think>', told) -}}
  {%- else %}{{ told.lstrip() + '|' + told.strip() + '|' + (' a ' + messages[0].content + ' b ').strip() }}{% endif -%}
  {{- tools | map(attribute='function') | list | tojson(indent=2) -}}
  {{- tools | map(attribute='type') | join(', ') -}}
{%- endif -%}
{%- for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor -%}"""
REFUSED_TOOLS = """{%- for m in messages %}{{ m.content + '\n' }}{% endfor -%}
{%- if tools %}{{ tools | map(attribute='function') | tojson }}{% endif -%}"""
MARKED_UP = """{%- for t in tools or [] -%}
  {{- "Use '" | safe + t.function.name + "' <to>\n" | safe + t.function.description + "\n&" + t.function | tojson -}}
{%- endfor -%}
{%- for m in messages %}{{ m.role + ': ' + m.content + '\n' }}
  {%- if m.role == 'user' %}{{ '<' | safe + (m.content if m.content else '"') }}{% endif -%}
{%- endfor -%}"""
DECLARED = """{%- macro given(value) -%}
  {%- set ns = namespace(first=true) -%}
  {%- if value is string %}{{ '`' + value + '`' }}
  {%- elif value is mapping -%}
    {{- '{' -}}
    {%- for key, item in value | dictsort -%}
      {{- ',' if not ns.first }}{% set ns.first = false %}{{ key }}:{{ given(item) -}}
    {%- endfor -%}
    {{- '}' -}}
  {%- else %}{{ value | tojson }}{% endif -%}
{%- endmacro -%}
{%- macro declared(properties) -%}
  {%- set ns = namespace(first=true) -%}
  {%- for key, value in properties | dictsort -%}
    {{- ',' if not ns.first }}{% set ns.first = false %}{{ key }}:{{ given(value.type | upper) -}}
    {%- if value.type | upper == 'OBJECT' and value.properties %}{ {{- declared(value.properties) -}} }{% endif -%}
    {%- if value['items'] is mapping %} of {{ given(value['items'].type | upper) }}{% endif -%}
  {%- endfor -%}
{%- endmacro -%}
{%- set ns = namespace(before=none) -%}
{%- if tools or enable_thinking -%}
  {%- if enable_thinking %}{{ '<think>' }}{% set ns.before = 'think' %}{% endif -%}
  {%- for t in tools or [] -%}
    {{- t.function.name }}{ {{- declared(t.function.parameters.properties) -}} }{% set ns.before = 'tool' -%}
  {%- endfor -%}
{%- endif -%}
{%- for m in messages -%}
  {%- if ns.before %}{{ '(after ' + ns.before + ')' }}{% endif -%}
  {%- set ns.before = none -%}
  {{- m.role + (' of ' + m.get('name') if m.role == 'tool' else '') + ': ' + m.content -}}
  {%- for c in m.tool_calls or [] -%}
    {{- c.function.name + given(c.function.arguments) }}{% set ns.before = 'call' -%}
  {%- endfor -%}
{%- endfor -%}
{{- '|' + ns.before if ns.before else '' }}{% if add_generation_prompt %}>{% endif %}"""
WITH_IDS = """{%- for m in messages %}{{ m.role + ': ' + m.content }}
  {%- for c in m.tool_calls or [] -%}
    {%- set out = c.function | tojson %}{{ out[:-1] + ', "id": "' + (c.id or '?') + '"}' }}
  {%- endfor -%}
{%- endfor -%}"""
THINKS_BY_ANOTHER_NAME = """{%- for m in messages %}{{ m.content }}{% endfor -%}
{%- if thinking %}{{ '<think>' }}{% endif -%}"""
FORMATS = {
    "in turns": ZEPHYR,
    "with a BOS at each turn": BOS_EACH_TURN,
    "with a BOS in a variable": BOS_IN_A_VARIABLE,
    "thinking": THINKING,
    "tools as JSON": TOOLS,
    "calls by argument": BY_ARGUMENT,
    "tools as indented JSON": INDENTED,
    "tools as Python": PYTHONIC,
    "lists, ranges and lines": LISTED,
    "parts of texts": PARTS,
    "added up in an attribute": ADDED_UP,
    "none before the loop": LAST_CALLS,
    "calls gathered in lists": GATHERED,
    "tools in a place of the system message": IN_A_PLACE,
    "tools as what is no list": REFUSED_TOOLS,
    "tools with what HTML escapes": MARKED_UP,
    "calls with their ids": WITH_IDS,
    "tools as declarations, by macros of their own": DECLARED,
    "thinking by another name": THINKS_BY_ANOTHER_NAME,
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_derived_template_prompts_as_the_chat_template(name):
    chat_format = ChatFormat(FORMATS[name], SPECIAL)
    derived = derive(chat_format, bos="<s>")
    assert derived.without == {}
    proof = prove(jinja_form("jinja", chat_format), go_form("go", derived.template), random=90)
    assert proof.counterexample is None
    assert proof.holds


@pytest.mark.parametrize("name", FORMATS)
def test_a_prompt_never_begins_with_the_token_that_ollama_adds(name):
    form = go_form("go", derive(ChatFormat(FORMATS[name], SPECIAL), bos="<s>").template)
    assert not any(form.render(conversation).startswith("<s>") for conversation in SUITE.values())


def test_a_token_that_no_vocabulary_adds_is_left_in_its_place():
    chat_format = ChatFormat(BOS_EACH_TURN, SPECIAL)
    form = go_form("go", derive(chat_format).template)
    assert prove(jinja_form("jinja", chat_format, bos=False), form, random=30).holds
    assert form.render(SUITE["no system message"]).startswith("<s>[INST]")


def test_deriving_twice_gives_the_same_bytes():
    assert len({derive(ChatFormat(THINKING, SPECIAL)).template for _ in range(3)}) == 1


def test_tools_that_go_cannot_say_are_left_out_and_named():
    derived = derive(ChatFormat("{{ messages[0].content }}{% if tools %}{{ tools | map('upper') | list }}{% endif %}"))
    assert derived.without == {"tools": "filter map"}
    assert go_form("go", derived.template).render(SUITE["no system message"]) == "What is the capital of France?"


def test_what_only_llama_cpp_renders_is_rendered_as_it_does():
    template = derive(ChatFormat(REFUSED_TOOLS)).template
    said = go_form("go", template).render(SUITE["tools"])
    assert said.startswith(ASKED["content"] + '\n[{"name": "get_weather", "description": ')


def test_a_sum_with_what_is_not_there_refuses_in_both():
    chat_format = ChatFormat("{{ messages[0].role + none if messages[0].role == 'tool' else messages[0].content }}")
    derived = derive(chat_format)
    assert derived.without == {}
    assert go_form("go", derived.template).render(SUITE["no system message"]) == "What is the capital of France?"


def test_results_are_left_out_with_tools_where_they_cannot_be_said():
    chat_format = ChatFormat(RESULTS_IN_A_LIST, SPECIAL)
    derived = derive(chat_format)
    assert derived.without.keys() == {"tools"}
    assert '"tool"' not in derived.template
    proof = prove(jinja_form("jinja", chat_format), go_form("go", derived.template), random=30)
    assert proof.holds_for("text")


def test_a_template_that_keeps_too_much_apart_is_not_translated_for_ever():
    names = [f"n{at}" for at in range(50)]
    begun = ", ".join(f"{name}=none" for name in names)
    set_ = "".join(f"{{% set ns.{name} = m.content %}}" for name in names)
    with pytest.raises(CannotDerive, match="too many steps"):
        derive(ChatFormat(f"{{% set ns = namespace({begun}) %}}{{% for m in messages %}}{set_}{{% endfor %}}"))


def test_what_no_template_can_say_is_refused_with_a_reason():
    with pytest.raises(CannotDerive, match="filter xmlattr"):
        derive(ChatFormat("{{ messages | xmlattr }}"))
    with pytest.raises(CannotDerive, match="it refuses every conversation"):
        derive(ChatFormat("{{ raise_exception('no') }}"))


def test_a_wrong_template_is_caught_and_the_counterexample_made_small():
    chat_format = ChatFormat(TOOLS, SPECIAL)
    wrong = derive(chat_format).template.replace("[results]", "[result]")
    proof = prove(jinja_form("jinja", chat_format), go_form("go", wrong))
    assert not proof.holds
    assert proof.holds_for("text")
    assert not proof.holds_for("tools")
    conversation, verdict = proof.counterexample
    assert [message["role"] for message in conversation.messages] == ["tool"]
    assert conversation.tools is None
    assert verdict.verdict == DIFFERS
    assert verdict.a[verdict.offset :].startswith("s]")


def test_a_difference_that_only_a_rare_text_shows_is_found_by_the_templates_own_constants():
    rare = "{% for m in messages %}{{ 'X' if 'zebra-mode' in m.content else m.content }}{% endfor %}"
    chat_format = ChatFormat(rare)
    assert "zebra-mode" in constants(rare)
    plain = go_form("go", "{{ range .Messages }}{{ .Content }}{{ end }}")
    assert not prove(jinja_form("jinja", chat_format), plain).holds_for("text")


def test_random_conversations_are_the_same_for_the_same_seed():
    first, again, other = (list(conversations(30, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert {conversation.kind for conversation in first} == set(KINDS)


@pytest.mark.parametrize(
    ("conversation", "lost"),
    [
        (Conversation([user("a"), user("b")]), [MERGED]),
        (Conversation([assistant("", call("f", {"b": 1, "a": 2}))]), [SORTED]),
        (Conversation([assistant("", call("f", {"a": 1.0}))]), [NUMBERS]),
        (Conversation([user("a")], [tool("f", "", {"b": {"type": "string"}, "a": {"type": "string"}})]), [SORTED]),
        (
            Conversation([user("a")], [tool("f", "g", {"a": {"description": "b", "type": "string"}})]),
            [REORDERED],
        ),
        (Conversation([system("a"), user("b")], [WEATHER, CLOCK, SEARCH]), []),
    ],
)
def test_what_ollama_does_not_carry_is_known(conversation, lost):
    assert carried(conversation)[1] == lost


def test_a_difference_that_ollama_makes_is_its_limit_and_another_is_not():
    chat_format = ChatFormat(TOOLS, SPECIAL)
    jinja, go = jinja_form("jinja", chat_format), go_form("go", derive(chat_format).template)
    disordered = Conversation([user("a"), assistant("", call("f", {"b": 1, "a": 2})), user("b")])
    assert compared(jinja, go, "", disordered).verdict == LIMIT
    assert compared(jinja, go_form("go", "{{ .Prompt }}"), "", disordered).verdict == DIFFERS
    assert compared(jinja, go, "", Conversation([user("a")])).verdict == EQUAL


def test_the_tags_that_ollama_looks_for_are_those_of_the_chat_template():
    assert think_tags(ChatFormat(THINKING)) == ("<think>", "</think>")
    assert tool_tag(ChatFormat(TOOLS)) == "<tool_call>"
    assert think_tags(ChatFormat(TOOLS)) is None
    assert tool_tag(ChatFormat(THINKING)) == ""
    template = derive(ChatFormat(TOOLS)).template
    assert template.startswith('{{ range .Messages }}{{ if and false .ToolCalls (eq .Role "tool") }}<tool_call>')


CLAIMED = "{#- tool_calls, message['role'] == 'tool' -#}" + ZEPHYR
CLAIMED_AND_SAID = CLAIMED + "{% if tools %}{{ tools | map('upper') }}{% endif %}"


@pytest.mark.parametrize(("jinja", "claims"), [(ZEPHYR, False), (CLAIMED, True), (CLAIMED_AND_SAID, False)])
def test_tools_are_claimed_only_where_the_chat_template_does_and_the_prompts_are_proved(jinja, claims):
    """Ollama takes the TEMPLATE then, where it would prefer the chat template that claims more."""
    derived = derive(ChatFormat(jinja, SPECIAL))
    go = GoTemplate.parse(derived.template)
    assert (TOOLS_CLAIM in claims_of_go(go)) is claims
    assert jinja_wins(jinja, go) is ("tools" in derived.without)


def test_a_template_that_says_something_else_with_tools_claims_none():
    template = tagged("{{ range .Messages }}{{ .Content }}{{ end }}", ChatFormat(CLAIMED, SPECIAL), {})
    assert TOOLS_CLAIM not in claims_of_go(GoTemplate.parse(template))


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tools.jinja").write_text(TOOLS)
    (tmp_path / "mapped.jinja").write_text("{% for t in tools or [] %}{{ [t] | map('upper') }}{% endfor %}hello")

    def invoke(*arguments):
        return CliRunner().invoke(app, ["template", *map(str, arguments)])

    return invoke


def test_what_is_printed_can_be_redirected_to_a_file_that_is_equal(run, tmp_path):
    result = run("derive", "tools.jinja", "--random", 20)
    assert result.exit_code == 0, result.output
    (tmp_path / "tools.gotmpl").write_text(result.stdout)
    assert run("check", "tools.jinja", "tools.gotmpl").exit_code == 0
    assert "tools 2" in result.stderr
    assert "equal" in result.stderr


def test_a_template_that_leaves_something_out_is_told_and_the_exit_code_says_so(run, tmp_path):
    result = run("derive", "mapped.jinja", "-o", "out.gotmpl", "--random", 20)
    assert result.exit_code == 1
    assert "without tools: filter map" in result.stderr
    assert "hello" in (tmp_path / "out.gotmpl").read_text()


def test_json_carries_the_template_the_proof_and_the_counterexample(run):
    told = json.loads(run("derive", "mapped.jinja", "--json", "--random", 0).stdout)
    assert told["without"] == {"tools": "filter map"}
    assert told["proof"]["text"][EQUAL] > 0
    assert told["counterexample"]["verdict"] == DIFFERS
    assert [tool["type"] for tool in told["counterexample"]["tools"]] == ["function"]


def test_a_go_template_is_not_derived_again(run, tmp_path):
    (tmp_path / "a.gotmpl").write_text("{{ .Prompt }}")
    result = run("derive", "a.gotmpl")
    assert result.exit_code == 2
    assert "a.gotmpl has a TEMPLATE in Go already" in result.stderr
