"""The chat formats in ``templates/``: both forms of each say the same, and a vocabulary suggests its own."""

from pathlib import Path

import pytest

from ollamaq.chat.compare import EQUAL, LIMIT, compare
from ollamaq.chat.conversations import SUITE
from ollamaq.chat.forms import go_form, jinja_form
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.known import find_format, known_formats, suggested
from ollamaq.errors import UsageError
from ollamaq.modelfile.lint import lint
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.render import render

NAMES = list(known_formats())
FOLDER = Path(__file__).resolve().parent.parent / "templates"


def test_every_file_is_in_the_table():
    forms = {f"{name}.{form}" for name in NAMES for form in ("gotmpl", "jinja")}
    assert {path.name for path in FOLDER.iterdir()} == forms | {"formats.toml"}
    assert sorted(NAMES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_give_the_same_prompts(name):
    known = find_format(name)
    forms = jinja_form("Jinja", ChatFormat(known.jinja, {"bos_token": "<s>"})), go_form("Go", known.go)
    verdicts = compare(*forms, SUITE)
    assert {v.conversation: v.verdict for v in verdicts if v.verdict != EQUAL} == {"two messages of one role": LIMIT}


@pytest.mark.parametrize("name", NAMES)
def test_the_modelfile_of_a_format_has_nothing_to_mend(name, tmp_path):
    known = find_format(name)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    modelfile = Modelfile(
        from_="./model.gguf", template=known.go, parameters={**known.parameters, "stop": list(known.stops)}
    )
    found = lint(render(modelfile), tmp_path)
    assert [
        f"{finding.rule.id}: {finding.message}" for finding in found if finding.rule.name != "missing-licence"
    ] == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gpt-oss"])
def test_generation_stops_at_what_follows_an_answer(name):
    known = find_format(name)
    turns = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "ANSWER"},
        {"role": "user", "content": "Q"},
    ]
    after = ChatFormat(known.jinja).render(turns).rpartition("ANSWER")[2]
    assert after.strip().startswith(tuple(stop.strip() for stop in known.stops))


@pytest.mark.parametrize(
    ("tokens", "names"),
    [
        ("<|im_start|> <|im_end|> <|endoftext|>", ["chatml"]),
        ("<|im_start|> <|im_end|> <|im_sep|>", ["phi-4"]),
        ("<|start_header_id|> <|end_header_id|> <|eot_id|> <|eom_id|>", ["llama3.1"]),
        ("<|start_of_role|> <|end_of_role|> <|fim_prefix|>", ["granite4", "granite4.1"]),
        ("<s> </s> <|im_start|>", []),
    ],
)
def test_special_tokens_suggest_the_format_that_knows_most_of_them(tokens, names):
    assert [known.name for known in suggested(tokens.split())] == names


def test_each_format_with_special_tokens_is_suggested_by_them():
    for known in known_formats().values():
        assert not known.tokens or known in suggested(known.tokens)


def test_a_name_that_is_almost_right_is_answered_with_the_right_one():
    with pytest.raises(UsageError, match=r"'chatlm'; did you mean chatml\?"):
        find_format("chatlm")
