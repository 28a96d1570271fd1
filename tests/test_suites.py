"""Suites of a team's own: what they may say, what fails them, and how they are recorded."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ollamaq.chat.jinja import ChatFormat
from ollamaq.cli import app
from ollamaq.errors import ServerError, UsageError
from ollamaq.ollama.client import ServerGone
from ollamaq.servers.target import Loaded, Reply, ToolCall, Unsupported
from ollamaq.smoke import read_suite
from ollamaq.smoke.needle import WORD
from ollamaq.smoke.record import Example, Recorded, choose, fitting, read_examples, record, suite_text
from ollamaq.smoke.run import run_suite


class Target:
    """A server that answers as it is told to."""

    label, engine, version = "here", "Fake", "1"

    def __init__(self, *texts, context=1 << 20, **reply):
        self.texts, self.context, self.reply, self.asked = texts or ("Paris.",), context, reply, []

    def digest(self, name):
        return None if name == "nobody" else "digest"

    def chat(self, name, messages, options, **request):
        self.asked.append((name, messages, options, request))
        words = sum(len(message["content"].split()) for message in messages)
        text = self.texts[(len(self.asked) - 1) % len(self.texts)]
        speed = {"tokens_per_second": 10.0 if name == "slow" else 20.0, "first_token": 0.1}
        found = {"done_reason": "stop", "prompt_tokens": min(words, self.context), "answer_tokens": 3, "seconds": 0.1}
        return Reply(text, **(found | speed | self.reply))

    def embed(self, name, texts):
        return [[1.0, 0.0, float(i)] for i in range(len(texts))]

    def loaded(self, name):
        return Loaded(3 * 10**9, 0)


@pytest.fixture
def outcome(tmp_path):
    def run(toml, target=None, name="model"):
        path = tmp_path / "smoke.toml"
        path.write_text(toml)
        (result,) = run_suite(target or Target(), name, read_suite(path), ["<s>"])
        return result

    return run


CASE = '[[case]]\nname = "a"\nprompt = "What is the capital of France?"\n'
CALL = ToolCall("weather", {"city": "Paris", "days": 2})
ROME = ToolCall("weather", {"city": "Rome"})
TIME = ToolCall("time", {})


@pytest.mark.parametrize(
    ("said", "good", "bad"),
    [
        ('contains = "PARIS"', Target("Paris."), Target("London.")),
        ('contains = ["paris", "france"]', Target("Paris, France"), Target("Paris")),
        ('excludes = "sorry"', Target("Paris."), Target("Sorry, no.")),
        ("regex = '^P\\w+\\.$'", Target("Paris."), Target("In Paris.")),
        ('equals = "Paris."', Target(" Paris.\n"), Target("Paris")),
        ("", Target("Paris."), Target("")),
        ("", Target("Paris."), Target("Paris<|im_end|>")),
        ("", Target("Paris."), Target("<s>Paris")),
        ("", Target("ho ho ho, Paris!"), Target("Well. " + "I am Paris. " * 9)),
        ("", Target("a\n----------------\nb"), Target("Paris", done_reason="length")),
        ("", Target("I am. " * 7 + "Paris."), Target("It is so that the city of Paris is large. " * 4)),
        ("stops = false", Target("Paris", done_reason="length"), Target("")),
        ("refuses = true", Target("I'm sorry, but I cannot help."), Target("Sure: Paris.")),
        ("refuses = true", Target("I’m sorry, but I can’t help."), Target("Sure. " * 60 + "You can't miss it.")),
        ("thinking = false", Target("Paris."), Target("<think>Hm.</think>Paris.")),
        ("refuses = false", Target("Sure: Paris."), Target("I am unable to say.")),
        ("thinking = true", Target("Paris.", thinking="Hm."), Target("Paris.")),
        ("thinking = false", Target("Paris."), Target("Paris.", thinking="Hm.")),
        (
            'language = "de"',
            Target("Die Hauptstadt von Frankreich ist Paris, und sie liegt an der Seine."),
            Target("The capital of France is the city of Paris, as everybody knows."),
        ),
        ('json_schema = { type = "object", required = ["city"] }', Target('{"city": "Paris"}'), Target("{}")),
        ('json_schema = { type = "object" }', Target("{}"), Target("Paris")),
        (
            'tool_call = { name = "weather", arguments = { city = "Paris" } }',
            Target("", tool_calls=(CALL,)),
            Target("I would call weather."),
        ),
        (
            'tool_call = { name = "weather", arguments = { city = "Rome" } }',
            Target("", tool_calls=(ROME,)),
            Target("", tool_calls=(CALL,)),
        ),
        (
            'tool_call = { name = "time" }',
            Target("", tool_calls=(TIME,)),
            Target("", tool_calls=(CALL,)),
        ),
        (
            'baseline = "It is Paris of course"\ntolerance = 0.25',
            Target("It is Paris of France"),
            Target("I do not know that one"),
        ),
        ('baseline = "Paris."', Target("Paris."), Target("Paris!")),
        (
            "attempts = 4\npass_rate = 0.5\ncontains = 'paris'",
            Target("Paris", "London"),
            Target("Paris", "Rome", "Bonn", "Oslo"),
        ),
        ("concurrent = 3\ncontains = 'paris'", Target("Paris"), Target("Paris", "Paris", "London")),
        ('memory = "3GB"', Target(), type("Big", (Target,), {"loaded": lambda self, name: Loaded(3 * 10**9 + 1, 0)})()),
        (
            'speed = { reference = "slow", tokens_per_second = 1.9 }',
            Target(),
            type("Same", (Target,), {"chat": lambda self, *a, **k: Target().chat("x", *a[1:], **k)})(),
        ),
    ],
)
def test_a_check_passes_and_fails_on_what_it_is_for(outcome, said, good, bad):
    assert outcome(CASE + said, good).ok
    result = outcome(CASE + said, bad)
    assert result.ok is False
    assert len(result.detail) < 800


def test_a_result_tells_its_case_attempts_and_measurements(outcome):
    said = "attempts = 4\npass_rate = 0.5\ncontains = 'paris'\nmemory = '4GB'\n"
    result = outcome(CASE + said + "speed = { reference = 'slow', tokens_per_second = 1 }", Target("Paris", "London"))
    assert (result.name, result.case, result.ok) == ("a", "a", True)
    assert (result.attempts, result.passed, result.pass_rate) == (4, 2, 0.5)
    assert result.measured == {
        "tokens_per_second": 20.0,
        "first_token_seconds": 0.1,
        "relative_tokens_per_second": 2.0,
        "relative_first_token": 1.0,
        "memory_bytes": 3 * 10**9,
    }


def test_speed_is_measured_on_prompts_that_no_server_has_kept(outcome):
    target = Target()
    outcome(CASE + "speed = { reference = 'slow' }", target)
    measured = [messages[0]["content"] for _, messages, _, _ in target.asked[1:]]
    assert len(set(measured)) == len(measured) == 8


def test_embeddings_have_their_length_and_similarity(outcome):
    case = '[[case]]\nname = "a"\nembed = ["cat", "dog"]\n'
    assert outcome(case + "dimension = 3\nsimilarity = [0.7, 0.8]").ok
    assert outcome(case + "dimension = 4").ok is False
    assert outcome(case + "similarity = [0.9, 1.0]").ok is False
    nothing = type("Nothing", (Target,), {"embed": lambda self, name, texts: [[0.0, 0.0] for _ in texts]})
    assert "all zero" in outcome(case + "dimension = 2", nothing()).detail


def test_a_needle_is_looked_for_in_a_text_as_long_as_said(outcome):
    target = Target(WORD)
    assert outcome('[[case]]\nname = "a"\nneedle = { tokens = 1000 }', target).ok
    _, messages, options, _ = target.asked[-1]
    assert WORD in messages[0]["content"]
    assert 900 < len(messages[0]["content"].split()) < 1020
    assert "num_ctx" not in options
    assert outcome('[[case]]\nname = "a"\nneedle = { tokens = 1000 }', Target("no idea")).ok is False


def test_a_text_that_the_server_cuts_fails(outcome):
    result = outcome('[[case]]\nname = "a"\nneedle = { tokens = 10000 }', Target(WORD, context=4096))
    assert (result.ok, result.detail) == (
        False,
        "the server handed the model 4096 tokens of 10000: its context is shorter",
    )


def test_what_cannot_be_checked_says_why_and_has_not_passed(outcome):
    result = outcome(CASE + 'speed = { reference = "nobody", tokens_per_second = 1 }')
    assert (result.ok, result.detail) == (None, "here has no model nobody to compare the speed with")

    class Elsewhere(Target):
        def loaded(self, name):
            raise Unsupported("not told here")

    result = outcome(CASE + 'memory = "1GB"', Elsewhere())
    assert (result.ok, result.detail) == (None, "not told here")


def test_a_missing_library_is_named(outcome, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "py3langid", None)
    result = outcome(CASE + 'language = "en"')
    assert (result.ok, result.detail) == (None, "language: needs pip install 'ollamaq[suites]'")
    assert outcome(CASE + 'language = "en"\ncontains = "London"').ok is False


def test_each_attempt_has_a_seed_of_its_own_and_the_first_is_fixed(outcome):
    target = Target()
    outcome(CASE + "attempts = 3\noptions = { seed = 7, temperature = 1 }", target)
    assert [options["seed"] for _, _, options, _ in target.asked] == [7, 8, 9]
    assert all(options["temperature"] == 1 for _, _, options, _ in target.asked)


def test_defaults_hold_where_a_case_says_nothing(outcome):
    target = Target()
    outcome('[defaults]\nsystem = "Be brief."\nthink = false\noptions = { top_k = 1, seed = 3 }\n' + CASE, target)
    ((_, messages, options, request),) = target.asked
    assert [message["role"] for message in messages] == ["system", "user"]
    assert (options["top_k"], options["seed"], options["temperature"], request) == (1, 3, 0, {"think": False})


def test_a_refusing_server_fails_a_case_and_one_that_is_gone_ends_the_suite(outcome):
    def failing(error):
        def chat(self, *arguments, **more):
            raise error

        return type("Failing", (Target,), {"chat": chat})()

    assert outcome(CASE, failing(ServerError("no room"))).detail == "no room"
    with pytest.raises(ServerGone):
        outcome(CASE, failing(ServerGone("gone")))


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("", "has no case"),
        ("case = []", "case has 0 entries"),
        ("[[case]]\nprompt = 'x'", r"case\[0\] has no name"),
        ("[[case]]\nname = 'a'", r"case\[0\]\.name 'a' asks nothing"),
        ("[[case]]\nname = 'a'\nprompt = 'x'\nembed = ['y']", "asks prompt and embed"),
        (CASE + CASE, r"case\[1\]\.name 'a' is there twice"),
        (CASE + "contain = 'x'", r"case\[0\]\.contain is unknown; did you mean contains"),
        (CASE + "options = { temprature = 1 }", r"options\.temprature is unknown; did you mean temperature"),
        (CASE + "options = { num_ctx = '4k' }", r"options\.num_ctx is '4k', not a whole number"),
        (CASE + "contains = 3", r"case\[0\]\.contains is 3, not a text or a list"),
        (CASE + "regex = '('", r"case\[0\]\.regex is not a regular expression"),
        (CASE + "pass_rate = 2", r"case\[0\]\.pass_rate is 2"),
        (CASE + "attempts = 0", r"case\[0\]\.attempts is 0"),
        (CASE + "tolerance = 0.5", "without a baseline"),
        (CASE + "dimension = 3", "dimension does not go with prompt"),
        (CASE + "memory = 'much'", "not an amount of memory"),
        (CASE + "tool_call = { arguments = {} }", r"case\[0\]\.tool_call has no name"),
        (CASE + "speed = { reference = 'x', first_tokens = 1 }", "did you mean first_token"),
        ("[[case]]\nname = 'a'\nembed = ['x']\nsimilarity = [0, 1]", "needs two texts"),
        ("[[case]]\nname = 'a'\nneedle = { tokens = 5 }", "no length of a text"),
        ("[[case]\n", "is not TOML"),
        ("[defaults]\ncontains = 'x'\n" + CASE, r"defaults\.contains is unknown"),
    ],
)
def test_a_suite_that_cannot_be_is_refused_by_file_and_key(tmp_path, toml, message):
    path = tmp_path / "smoke.toml"
    path.write_text(toml)
    with pytest.raises(UsageError, match=message) as error:
        read_suite(path)
    assert str(path) in str(error.value)


MESSAGES = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
SHAREGPT = {
    "conversations": [
        {"from": "system", "value": "Be"},
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Hello"},
    ]
}
ALPACA = {"instruction": "Add", "input": "2 2", "output": "4"}


def test_examples_of_every_format_are_read(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, (MESSAGES, SHAREGPT, ALPACA))) + "\n\n")
    examples = list(read_examples(path))
    assert [example.answer for example in examples] == ["Hello", "Hello", "4"]
    assert [len(example.messages) for example in examples] == [1, 2, 1]
    assert examples[2].messages[0]["content"] == "Add\n2 2"


TOOLS = [{"name": "weather", "parameters": {"type": "object", "default": None}}]
CALLED = {
    "tools": json.dumps(TOOLS),
    "conversations": [
        {"from": "human", "value": "Weather?"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Paris"}}'},
        {"from": "observation", "value": "sunny"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Rome"}}'},
    ],
}


def test_calls_of_tools_are_kept_and_expected(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps(CALLED))
    (example,) = read_examples(tmp_path / "train.jsonl")
    assert [message["role"] for message in example.messages] == ["user", "assistant", "tool"]
    assert example.messages[1]["tool_calls"] == [{"function": {"name": "weather", "arguments": {"city": "Paris"}}}]
    suite = tmp_path / "smoke.toml"
    suite.write_text(suite_text([Recorded(example)], "train.jsonl", 0.3))
    (case,) = read_suite(suite)
    assert case.checks == {"tool_call": {"name": "weather"}}
    assert case.request["tools"][0]["function"] == {"name": "weather", "parameters": {"type": "object"}}
    reply = Target("", tool_calls=(ROME,)).chat("m", example.messages, {})
    suite.write_text(suite_text([Recorded(example, reply)], "train.jsonl", 0.3))
    assert read_suite(suite)[0].checks == {"tool_call": {"name": "weather", "arguments": {"city": "Rome"}}}


def test_what_a_model_answers_badly_itself_is_not_asked_of_another(tmp_path):
    examples = [Example(i, ({"role": "user", "content": str(i)},), "x") for i in range(3)]
    recorded = record(Target("Paris", "", "I am. " * 9), "f16", examples)
    assert [one.example.line for one in recorded] == [0]
    cut = Target("Paris and", done_reason="length")
    suite = tmp_path / "smoke.toml"
    suite.write_text(suite_text(record(cut, "f16", examples[:1]), "train.jsonl", 0.3))
    assert read_suite(suite)[0].checks == {"baseline": "Paris and", "tolerance": 0.3, "stops": False}


def test_examples_that_the_chat_template_refuses_are_left_out():
    picky = ChatFormat("{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}x")
    examples = [Example(i, ({"role": role, "content": "Hi"},), "x") for i, role in enumerate(("system", "user"))]
    assert [example.line for example in fitting(examples, picky)] == [1]


PICTURE = {"role": "user", "content": [{"type": "image_url"}]}


@pytest.mark.parametrize("turn", [{"from": "robot", "value": "x"}, PICTURE, "x", {"from": "gpt"}])
def test_a_turn_that_is_not_text_is_refused_by_file_and_line(tmp_path, turn):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"conversations": [turn, *SHAREGPT["conversations"]]}))
    with pytest.raises(UsageError, match=r"train\.jsonl:1 has a turn of .* that is not text"):
        list(read_examples(path))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tools": 3}, "tools is no list of objects"),
        ({"tools": "[3]"}, "tools is no list of objects"),
        ({"tools": "{"}, "'{' is not JSON"),
        ({"conversations": [{"from": "function_call", "value": "3"}]}, "a call of no function"),
        ({"conversations": [{"from": "function_call", "value": "do it"}]}, "'do it' is not JSON"),
    ],
)
def test_tools_and_calls_that_are_none_are_refused_by_file_and_line(tmp_path, more, message):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(SHAREGPT | more))
    with pytest.raises(UsageError, match=rf"train\.jsonl:1.* {message}"):
        list(read_examples(path))


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"messages": [{"role": "user", "content": "Hi"}]}', "[" * 100_000])
def test_a_line_that_is_no_example_is_named(tmp_path, line):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(MESSAGES) + "\n" + line)
    with pytest.raises(UsageError, match=r"train\.jsonl:2 "):
        list(read_examples(path))


@given(st.lists(st.text(), min_size=2, max_size=4))
def test_what_is_recorded_reads_back(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("suite") / "smoke.toml"
    example = Example(3, tuple({"role": "user", "content": text} for text in texts), "x")
    recorded = Recorded(example, Reply(texts[0], "stop", 1, 1, 0.1))
    path.write_text(suite_text([recorded], "train.jsonl", 0.5), encoding="utf-8", newline="")
    (case,) = read_suite(path)
    assert [message["content"] for message in case.messages] == texts
    assert case.checks == {"baseline": texts[0], "tolerance": 0.5}


def test_the_same_examples_are_chosen_wherever_they_stand():
    examples = [Example(i, ({"role": "user", "content": str(i)},), "x") for i in range(50)]
    chosen = choose(examples, 5)
    assert len(chosen) == 5
    assert {one.line for one in choose(examples[::-1], 5)} == {one.line for one in chosen}
    assert [one.line for one in chosen] == sorted(one.line for one in chosen)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["smoke", "record", *map(str, arguments)])


def test_record_writes_a_suite_and_replaces_none(run, tiny_checkpoint, tmp_path):
    (tmp_path / "train.jsonl").write_text("\n".join([json.dumps(MESSAGES)] * 3))
    arguments = (tiny_checkpoint(), "--examples", "train.jsonl", "-n", "2")
    first = run(*arguments)
    assert first.exit_code == 0, first.output
    assert len(tomllib.loads((tmp_path / "smoke.toml").read_text())["case"]) == 2
    again = run(*arguments)
    assert again.exit_code == 2
    assert "smoke.toml is there already" in again.output


def test_record_needs_a_model_that_runs_where_it_is_no_directory(run, tmp_path, monkeypatch):
    pytest.importorskip("xllamacpp")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    (tmp_path / "train.jsonl").write_text(json.dumps(MESSAGES))
    refused = run("nobody", "--examples", "train.jsonl", "--to", "store")
    assert refused.exit_code == 4
    assert "has no model nobody:latest" in refused.output
    assert not (tmp_path / "smoke.toml").exists()


def test_smoke_takes_a_name_without_saying_run():
    run = CliRunner().invoke(app, ["smoke", "--help"])
    assert "record" in run.output
    run = CliRunner().invoke(app, ["smoke", "a/b/c/d/e"])
    assert run.exit_code == 2


def test_the_name_of_a_case_is_no_markup():
    from rich.console import Console

    from ollamaq.cli.publish import checks_table
    from ollamaq.smoke import CheckResult

    console = Console(width=80)
    with console.capture() as shown:
        console.print(checks_table("t", [CheckResult("[/bold] [red]x", True, "fine")]))
    assert "[/bold] [red]x" in shown.get()
