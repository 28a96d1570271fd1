"""Each check of the smoke test fails on the fault that it is for, and on that alone."""

import dataclasses
import re

import pytest

from ollamaq.chat.conversations import SUITE, Conversation
from ollamaq.chat.forms import jinja_form
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.selection import claims_of_jinja
from ollamaq.errors import ModelRefused, ServerError, UsageError
from ollamaq.ollama.client import ServerGone
from ollamaq.servers.target import Reply, Unsupported
from ollamaq.smoke import run_smoke
from ollamaq.smoke.tokens import tokenizer_of

TRAINING = ChatFormat(
    "{{ bos_token }}{% if messages[0].role != 'system' %}[system]Be kind.{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]",
    {"bos_token": "<s>"},
)
WITHOUT_SYSTEM = ChatFormat("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]")


def words(prompt):
    return [sum(word.encode()) for word in re.findall(r"\w+|\S", prompt)]


def failing(error):
    def fail(*arguments, **options):
        raise error

    return fail


class Target:
    """A server that answers as it is told to."""

    label, engine, version = "here", "Fake", "1"

    def __init__(self, text="Paris.", done_reason="stop", renders=TRAINING, extra_tokens=0, ids=None):
        self.text, self.done_reason, self.renders, self.extra_tokens = text, done_reason, renders, extra_tokens
        self.ids = ids

    def tokenize(self, name, text):
        if self.ids is None:
            raise Unsupported("told nowhere")
        return self.ids(text)

    def capabilities(self, name):
        return claims_of_jinja(self.renders.template)

    def render(self, name, messages, tools=None, think=None):
        return jinja_form("there", self.renders).render(Conversation(messages, tools, think))

    def template(self, name):
        return "{# guard #}" + self.renders.template

    def chat(self, name, messages, options):
        self.options = options
        tokens = len(words(self.renders.render(messages))) + self.extra_tokens
        return Reply(self.text, self.done_reason, tokens, 3, 0.01)


def outcome(target, **options):
    given = {"chat_format": TRAINING, "tokenize": words} | options
    return {check.name: check for check in run_smoke(target, "model", **given)}


def test_a_good_model_passes_every_check():
    checks = outcome(Target(), expect="paris")
    assert list(checks) == ["loads", "answer", "stops", "prompt", "capabilities", "tokens"]
    assert all(check.ok for check in checks.values())
    assert "Paris." in checks["answer"].detail
    assert f"{len(SUITE)} of {len(SUITE)}" in checks["prompt"].detail


@pytest.mark.parametrize(
    ("target", "failing"),
    [
        (Target(text=" \n"), {"answer"}),
        (Target(text="Sure<|im_end|>"), {"answer"}),
        (Target(text="[/INST] Paris."), {"answer"}),
        (Target(text="<s>Paris."), {"answer"}),
        (Target(text="London."), {"answer"}),
        (Target(done_reason="length"), {"stops"}),
        (Target(renders=WITHOUT_SYSTEM), {"prompt", "tokens"}),
        (Target(extra_tokens=1), {"tokens"}),
    ],
    ids=["empty", "leaks", "leaks-inst", "leaks-own", "unexpected", "endless", "no-system", "double-bos"],
)
def test_a_fault_fails_its_check_alone(target, failing):
    checks = outcome(target, expect="paris")
    assert {name for name, check in checks.items() if check.ok is False} == failing


def test_a_prompt_that_differs_is_shown_at_the_first_difference():
    detail = outcome(Target(renders=WITHOUT_SYSTEM))["prompt"].detail
    assert "no system message: differs at character 1: '[user]What" in detail
    assert "'[system]Be kind.[user]" in detail
    assert "here uses another template" in detail


def test_a_template_that_is_in_effect_and_rendered_otherwise_is_not_called_another():
    target = Target()
    target.render = lambda name, messages, **more: "something else"
    assert "another template" not in outcome(target)["prompt"].detail


def test_a_template_that_tells_the_date_may_differ_by_the_clock():
    dated = ChatFormat(TRAINING.template + "{{ strftime_now('%Y') }}", TRAINING.special_tokens)
    target = Target(renders=dated)
    render = target.render
    target.render = lambda name, messages, **more: render(name, messages, **more) + "1999"
    assert "see that this machine's clock is right" in outcome(target, chat_format=dated)["prompt"].detail
    target.render = render
    assert outcome(target, chat_format=dated)["prompt"].ok


def test_a_leading_bos_may_be_left_to_the_tokenizer():
    bare = ChatFormat(TRAINING.template)
    assert outcome(Target(renders=bare), tokenize=None)["prompt"].ok


def test_what_cannot_be_checked_is_said_and_does_not_fail():
    checks = outcome(Target(), chat_format=None, tokenize=None)
    assert checks["prompt"].ok is None
    assert outcome(Target(), tokenize=None)["tokens"].ok is None


def test_conversations_that_the_template_refuses_are_left_out():
    picky = ChatFormat("{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}x")
    checks = outcome(Target(renders=picky), chat_format=picky)
    assert checks["prompt"].ok
    assert re.search("[1-9][0-9]* refused", checks["prompt"].detail)
    refusing = ChatFormat("{{ raise_exception('no') }}")
    checks = outcome(Target(), chat_format=refusing)
    assert (checks["prompt"].ok, checks["tokens"].ok) == (None, None)


def test_a_template_that_fails_fails_the_check_with_its_line():
    checks = outcome(Target(), chat_format=ChatFormat("\n{{ messages[0].nothing.at_all }}"))
    assert checks["prompt"].ok is False
    assert "the chat template fails, line 2" in checks["prompt"].detail


def test_counts_that_leave_out_cached_tokens_are_not_held_against_the_model():
    target, known, chat = Target(), set(), Target.chat

    def caching(name, messages, options):
        reply = chat(target, name, messages, options)
        prompt = target.render(name, messages)
        tokens = 1 if prompt in known else reply.prompt_tokens - bool(known)
        known.add(prompt)
        return dataclasses.replace(reply, prompt_tokens=tokens)

    target.chat = caching
    tokens = outcome(target)["tokens"]
    assert (tokens.ok, tokens.detail) == (None, "Fake 1 leaves out tokens that it still knew")


def test_answers_are_greedy_and_bounded():
    target = Target()
    outcome(target, chat_format=None)
    assert target.options == {"temperature": 0, "seed": 0, "num_predict": 256}


def test_an_error_in_a_check_fails_that_check_and_the_others_go_on():
    target = Target()
    target.render = failing(ServerError("cannot render"))
    checks = outcome(target)
    assert (checks["prompt"].ok, checks["prompt"].detail) == (False, "no system message: cannot render")
    assert checks["tokens"].ok


def test_a_server_that_is_gone_ends_the_test():
    target = Target()
    target.render = failing(ServerGone("nobody answers"))
    with pytest.raises(ServerGone, match="nobody answers"):
        outcome(target)


def test_an_expectation_that_is_no_regular_expression_is_refused():
    with pytest.raises(UsageError, match=r"'\(' is not a regular expression: .*position 0"):
        outcome(Target(), expect="(")


def test_tokens_are_counted_without_another_bos(tiny_checkpoint):
    pytest.importorskip("tokenizers")
    tokenize = tokenizer_of(tiny_checkpoint())
    ids = tokenize("<|im_start|>Paris<|im_end|>")
    assert (len(ids), ids[0], ids[-1]) == (3, 1, 2)


def test_ids_of_another_vocabulary_are_told_where_a_place_gives_them():
    assert "with the same ids" in outcome(Target(ids=words))["tokens"].detail
    check = outcome(Target(ids=lambda text: [*words(text)[:-1], 7]))["tokens"]
    assert check.ok is False
    assert " is 7 by the GGUF's vocabulary, " in check.detail
    assert "is nothing by" in outcome(Target(ids=lambda text: words(text)[:-1]))["tokens"].detail


def test_tokens_cannot_be_counted_without_the_file_and_a_broken_one_is_refused(tmp_path):
    pytest.importorskip("tokenizers")
    assert tokenizer_of(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelRefused, match=r"tokenizer\.json is not a tokenizer"):
        tokenizer_of(tmp_path)


def test_a_model_that_does_not_load_fails_that_check_and_ends_the_test():
    target = Target()
    target.chat = failing(ServerError("unsupported architecture"))
    checks = outcome(target)
    assert list(checks) == ["loads"]
    assert (checks["loads"].ok, checks["loads"].detail) == (False, "unsupported architecture")


def test_prompts_of_ones_own_are_asked_and_the_first_is_held_to_the_expectation():
    asked = []
    target = Target(text="Four.")
    answer = target.chat
    target.chat = lambda name, messages, options: (
        asked.append(messages[0]["content"]),
        answer(name, messages, options),
    )[1]
    checks = outcome(target, prompts=["2 + 2?", "3 + 1?"], expect="four", chat_format=None)
    assert asked == ["2 + 2?", "3 + 1?"]
    assert checks["answer"].ok


def test_a_doubled_bos_is_called_that():
    assert "another <s> before the prompt's own" in outcome(Target(extra_tokens=1))["tokens"].detail
    assert "another" not in outcome(Target(extra_tokens=2))["tokens"].detail
