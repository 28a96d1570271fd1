"""The Go template engine: what Ollama's own package answered (integration/gotemplates.py), bounds and errors."""

import gzip
import json
import time
from pathlib import Path

import pytest

from ollamaq.chat.gotemplate import GoTemplate, TemplateError, execute, ollama_prompt
from ollamaq.errors import OllamaqError, UsageError

CASES = json.loads(gzip.decompress((Path(__file__).parent / "data" / "gotemplates.json.gz").read_bytes()))


def answer(question):
    """What we say to a question, in the form of the data."""
    try:
        template = GoTemplate.parse(question["template"])
    except TemplateError as error:
        return {"error": error.go, "vars": []}
    told = {"vars": sorted(template.variables)}
    try:
        if "chat" in question:
            return {"text": ollama_prompt(template, **question["chat"])} | told
        return {"text": template.render(question["values"])} | told
    except TemplateError as error:
        return {"error": error.go} | told


def test_templates_are_answered_as_ollama_answered_them():
    assert len(CASES) > 500
    assert sum("text" in theirs for _, theirs in CASES) > 200
    wrong = [(question, theirs, ours) for question, theirs in CASES if (ours := answer(question)) != theirs]
    assert not wrong


def test_the_place_of_a_parse_error_is_told_in_lines_and_columns():
    with pytest.raises(TemplateError, match='line 2, column 5: function "nope" not defined') as error:
        GoTemplate.parse("a\né {{nope}}")
    assert (error.value.line, error.value.column) == (2, 5)


def test_the_place_of_a_failure_is_told_in_characters_to_people_and_in_bytes_by_go():
    template = GoTemplate.parse("{{ .Messages | len }}\n日本 {{ .System.Name }}")
    with pytest.raises(TemplateError, match="can't evaluate field Name in type interface") as error:
        ollama_prompt(template, [])
    assert (error.value.line, error.value.column) == (2, 14)
    assert error.value.go.startswith('template: :2:17: executing "" at <.System.Name>: ')


@pytest.mark.parametrize(
    "text",
    [
        '{{ define "t" }}{{ template "t" . }}{{ end }}{{ template "t" . }}',
        "{{ range 1000000000 }}{{ end }}",
        "{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}",
        '{{ $x := "x" }}{{ range 100 }}{{ $x = print $x $x }}{{ end }}',
        '{{ range 1000000 }}{{ printf "%1000000s" "" }}{{ end }}',
        '{{ printf "' + "%1000000[1]s" * 10_000 + '" 1 }}',
        '{{ $x := printf "%1000000s" "" }}{{ print ' + "$x " * 100_000 + "}}",
        '{{ $x := printf "%1000000s" "<" }}{{ range 1000 }}{{ len (html $x) }}{{ end }}',
        "{{ if 1 }}" * 5000,
        "{{" + "(" * 5000,
        "{{ if 1 }}{{ else if 1 }}" + "{{ else if 1 }}" * 5000 + "{{ end }}",
        "{{ . }}" * 200_000,
        "{{ $x := 1 }}" * 10_000 + "{{ $y }}",
        "{{ .a }}" * 30_000 + "{{",
    ],
)
def test_hostile_templates_end_in_one_clear_error(text, monkeypatch):
    monkeypatch.setattr(execute, "MAX_SECONDS", 0.5)
    started = time.process_time()
    with pytest.raises(TemplateError) as error:
        GoTemplate.parse(text).render({})
    assert time.process_time() - started < 30  # without bounds it would be hours
    assert len(str(error.value)) < 2000


def test_messages_nested_too_deep_are_refused():
    arguments = {}
    for _ in range(5000):
        arguments = {"a": arguments}
    call = {"function": {"name": "f", "arguments": arguments}}
    with pytest.raises(UsageError, match="nested too deep"):
        ollama_prompt(GoTemplate.parse("{{ json .Messages }}"), [{"role": "assistant", "tool_calls": [call]}])


def test_an_address_in_memory_is_not_made_up():
    template = GoTemplate.parse("{{ .Messages }}")
    with pytest.raises(TemplateError, match="address in memory"):
        ollama_prompt(template, [{"role": "user", "content": "Hi."}])


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ({"role": "user", "content": ["parts"]}, r"messages\[0\].content"),
        ({"role": "user", "content": "", "images": ["?"]}, r"messages\[0\].images\[0\]"),
        ({"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}, "arguments"),
        ("text", r"messages\[0\]"),
    ],
)
def test_messages_that_ollama_would_refuse_are_refused(message, what):
    with pytest.raises(UsageError, match=what):
        ollama_prompt(GoTemplate.parse("{{ .Prompt }}"), [message])


def test_a_think_level_that_ollama_does_not_know_is_refused():
    with pytest.raises(OllamaqError, match="think is 'deep'"):
        ollama_prompt(GoTemplate.parse("{{ .Prompt }}"), [], think="deep")
