"""The template that a package brings is chosen for the server it goes to, by proof."""

import pytest

from ollamaq.chat.answers import UNREAD
from ollamaq.chat.carried import UNSAID
from ollamaq.chat.compare import ASCII, EQUAL, GOES_ON, LIMIT, OWN_WAY, TOLD, compared
from ollamaq.chat.conversations import SUITE, Conversation, assistant, user
from ollamaq.chat.derive import derive
from ollamaq.chat.features import features
from ollamaq.chat.forms import jinja_form, server_form
from ollamaq.chat.gotemplate import GoTemplate
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.known import find_format
from ollamaq.chat.selection import claims_of_go, claims_of_jinja, jinja_wins, think_tags
from ollamaq.chat.strategy import DERIVED, KNOWN, NATIVE, NONE, RENDERER, strategies, version_of
from ollamaq.errors import ModelRefused

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOLS = (
    "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}"
    "{% for m in messages %}{{ '[' + m.role + ']' + m.content }}"
    "{% if m.role == 'tool' %}{{ '[result]' }}{% endif %}"
    "{% for c in m.tool_calls or [] %}"
    "{{ '<tool_call>{\"name\": \"' + c.function.name + '\", \"arguments\": ' + c.function.arguments | tojson + '}' }}"
    "{% endfor %}{% endfor %}{{ '[assistant]' }}"
)
BY_ARGUMENT = (
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}"
    "{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% for c in m.tool_calls or [] %}"
    "{{ '<tool_call>\\n<function=' + c.function.name + '>\\n' }}"
    "{% for key, value in c.function.arguments.items() %}"
    "{{ '<parameter=' + key + '>\\n' }}{{ value if value is string else value | tojson }}{{ '\\n</parameter>\\n' }}"
    "{% endfor %}{{ '</function>\\n</tool_call>' }}"
    "{% endfor %}{% endfor %}{{ '[assistant]' }}"
)
THINKING = CHATML + "{% if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}{% endif %}"
UNSAYABLE = "{% for m in messages %}{{ m.content | wordwrap(9) }}{% endfor %}"


def form(template):
    return jinja_form("training", ChatFormat(template, {"bos_token": "<s>"}))


def names(*arguments, **options):
    return [strategy.name for strategy in strategies(*arguments, **options)]


def test_a_new_server_is_given_the_chat_template_and_then_a_proved_template():
    assert names(form(CHATML), None) == [NATIVE, DERIVED]
    assert names(form(CHATML), (0, 34, 2)) == [NATIVE, DERIVED]
    assert names(form(UNSAYABLE), None) == [NATIVE]
    assert names(None, (0, 12, 6)) == [NONE]


def test_a_server_before_jinja_is_given_a_proved_template_or_nothing():
    (strategy,) = strategies(form(CHATML), (0, 12, 6))
    assert (strategy.name, strategy.without) == (DERIVED, {})
    assert "text 12" in strategy.reason
    with pytest.raises(ModelRefused, match=r"Ollama 0\.12\.6 renders no Jinja, and no TEMPLATE was proved") as refused:
        next(strategies(form(UNSAYABLE), (0, 12, 6)))
    assert "--chat-format" in refused.value.next_step
    (strategy,) = strategies(form(UNSAYABLE), (0, 12, 6), known=find_format("chatml"))
    assert (strategy.name, strategy.template) == (KNOWN, find_format("chatml").go)


def test_where_a_server_attaches_a_renderer_those_of_the_architecture_are_tried_and_its_own_choice_last():
    found = list(strategies(form(CHATML), None, architecture="gemma4"))
    assert {strategy.name for strategy in found} == {RENDERER}
    assert [strategy.template for strategy in found] == [None] * 5
    assert (found[0].renderer, found[0].parser) == ("gemma4-large", "gemma4")
    assert ("gemma4-small", "gemma4-no-thinking") in [(strategy.renderer, strategy.parser) for strategy in found]
    assert (found[-1].renderer, found[-1].parser) == (None, None)
    thinking = strategies(form(THINKING), None, architecture="gemma4")
    assert [strategy.parser for strategy in thinking] == ["gemma4", "gemma4", None]
    (untried,) = strategies(form(CHATML), None, architecture="gemma4", tried=False)
    assert untried == found[-1]


def test_a_derived_template_names_the_parser_that_finds_its_calls():
    _, derived = strategies(form(BY_ARGUMENT), None)
    assert (derived.name, derived.parser) == (DERIVED, "qwen3-coder")
    _, derived = strategies(form(TOOLS), None)
    assert (derived.parser, UNREAD in derived.reason) == (None, False)
    _, derived = strategies(form(BY_ARGUMENT.replace("<function", "<f")), None)
    assert (derived.parser, UNREAD in derived.reason) == (None, True)


@pytest.mark.parametrize(
    ("told", "version"), [("0.12.6", (0, 12, 6)), ("0.34.2-rc1", (0, 34, 2)), ("0.0.0", None), ("dev", None)]
)
def test_a_version_that_tells_nothing_is_none(told, version):
    assert version_of(told) == version


@pytest.mark.parametrize("template", [CHATML, TOOLS, THINKING], ids=["text", "tools", "thinking"])
def test_a_derived_template_is_the_one_that_ollama_uses(template):
    go = GoTemplate.parse(derive(ChatFormat(template)).template)
    assert claims_of_go(go) >= claims_of_jinja(template)
    assert not jinja_wins(template, go)


@pytest.mark.parametrize(
    ("jinja", "go", "wins"),
    [
        ("{{ messages }}", "{{ .Prompt }}", False),
        ("{{ tools }}", "{{ .Prompt }}", True),
        ("{{ tools }}", "{{ range .Messages }}{{ .Content }}{{ end }}{{ .Tools }}", False),
        ("<think></think>", "{{ .Prompt }}", True),
        ("<think></think>", "{{ range .Messages }}<think>{{ .Thinking }}</think>{{ end }}", False),
        ("{{ tool_calls }}tool_response", "{{ range .Messages }}{{ .ToolCalls }}{{ end }}{{ .Tools }}", True),
        (
            "{{ tool_calls }}tool_response",
            "{{ range .Messages }}{{ .ToolCalls }}tool_response{{ end }}{{ .Tools }}",
            False,
        ),
        ("content.split('</think>')", "{{ .Prompt }}", True),
        ("content.split('</think>') reasoning_content", "{{ .Prompt }}", False),
    ],
)
def test_which_template_ollama_takes(jinja, go, wins):
    assert jinja_wins(jinja, GoTemplate.parse(go)) is wins


def test_the_tags_around_thoughts_are_found_as_ollama_finds_them():
    tags = "{{ range .Messages }}{{ if .Thinking }} <think> {{ .Thinking }}</think>\n{{ end }}{{ end }}"
    assert think_tags(GoTemplate.parse(tags)) == ("<think>", "</think>")
    assert think_tags(GoTemplate.parse("{{ .Prompt }}{{ range .Messages }}{{ $.Think }}{{ end }}")) == ("", "")


def test_features_are_found_by_rendering():
    assert features(form(CHATML)) == ("system", "tool results", "prefill")
    assert {"tools", "tool calls", "tool results"} <= {*features(form(TOOLS))}
    assert "thinking" in features(form(THINKING))


def served(template, render, capabilities=()):
    return server_form("server", template, capabilities, render)


def test_what_a_server_makes_of_tools_and_silence_is_its_limit():
    """It puts ``required`` before ``properties``, and thinks where nobody says whether to."""
    trained = form(TOOLS)

    def render(chat):
        tools = [
            {
                "type": "function",
                "function": {
                    **{key: tool["function"][key] for key in ("name", "description")},
                    "parameters": {
                        key: tool["function"]["parameters"][key] for key in ("type", "required", "properties")
                    },
                },
            }
            for tool in chat.tools
        ]
        return trained.render(Conversation(chat.messages, tools))

    verdict = compared(trained, served(TOOLS, render, ["tools"]), "", SUITE["tools"])
    assert (verdict.verdict, "order" in verdict.why) == (LIMIT, True)
    always = server_form("server", THINKING, ["thinking"], lambda chat: form(THINKING).render(chat))
    assert compared(form(THINKING), always, "", SUITE["no thinking"]).verdict == EQUAL


def test_a_server_that_thinks_unless_told_not_to_is_told_what_training_takes_silence_for():
    quiet = CHATML + "{% if enable_thinking %}{{ '<think>' }}{% endif %}"
    for template, why in ((quiet, TOLD), (THINKING, "")):
        trained = form(template)

        def render(chat, trained=trained):
            return trained.render(Conversation(chat.messages, chat.tools, chat.think is not False))

        server = served(template, render, ["thinking"])
        verdict = compared(trained, server, "", SUITE["no system message"])
        assert (verdict.verdict, verdict.why) == (EQUAL, why)
        assert compared(server, trained, "", SUITE["thinking"]).verdict == EQUAL
        assert compared(server, server, "", SUITE["no system message"]).why == ""
    odd = CHATML + "{% if enable_thinking is defined %}{{ enable_thinking }}{% endif %}"
    always = served(odd, lambda chat: form(odd).render(Conversation(chat.messages, think=True)), ["thinking"])
    verdict = compared(form(odd), always, "", SUITE["no system message"])
    assert (verdict.verdict, verdict.why) == (LIMIT, UNSAID)


def test_what_llamacpp_does_with_every_template_is_told_apart():
    begun = Conversation([user("Count."), assistant("1, 2,")])
    verdict = compared(form(CHATML), served(CHATML, lambda chat: "<think></think>1, 2,"), "", begun)
    assert (verdict.verdict, verdict.why) == (OWN_WAY, GOES_ON)
    trims = "{% for m in messages %}{{ '[' + m.content.strip() + ']' }}{% endfor %}"
    spaced = Conversation([user("\u00a0Hello. ")])
    verdict = compared(form(trims), served(trims, lambda chat: "[\u00a0Hello.]"), "", spaced)
    assert (verdict.verdict, verdict.why) == (OWN_WAY, ASCII)


def test_an_older_server_is_asked_for_no_field_that_it_lacks():
    """Before 0.30 a property has no ``required``; what that takes from a prompt is the server's limit."""
    (old,) = strategies(form(TOOLS), (0, 17, 4))
    assert (old.name, old.without) == (DERIVED, {})
    assert old.template
    assert "if .Required" not in old.template
    assert "if .Required" in derive(ChatFormat(TOOLS)).template
