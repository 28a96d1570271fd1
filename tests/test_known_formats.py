"""The chat formats in ``templates/``: both forms of each say the same, and a vocabulary suggests its own."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ollamaq
from ollamaq.chat.compare import EQUAL, LIMIT, compare
from ollamaq.chat.conversations import SUITE
from ollamaq.chat.forms import go_form, jinja_form
from ollamaq.chat.guard import protect
from ollamaq.chat.jinja import ChatFormat
from ollamaq.chat.known import find_format, known_formats, suggested
from ollamaq.cli import app
from ollamaq.errors import UsageError
from ollamaq.gguf.reader import read_gguf
from ollamaq.modelfile.lint import lint
from ollamaq.modelfile.model import Modelfile
from ollamaq.modelfile.render import render
from ollamaq.source import open_source

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
    verdicts = {v.conversation: v.verdict for v in compare(*forms, SUITE) if v.verdict != EQUAL}
    if "trim" in known.jinja or "strip" in known.jinja:
        verdicts.pop("other spaces at the ends", None)  # the TEMPLATEs take off only ASCII's
    assert verdicts == {"two messages of one role": LIMIT, "two answers in a row": LIMIT}


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


@pytest.fixture
def untold(tiny_checkpoint):
    """A model without chat template whose vocabulary has ChatML's tokens."""
    return tiny_checkpoint("untold", without_template=True)


def template(name):
    """A format's chat template for the tests' tokenizer, which begins no text with a BOS."""
    return find_format(name).jinja.removeprefix("{{- bos_token }}\n")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_model_without_chat_template_can_be_published_and_its_format_is_suggested(untold, tmp_path, caplog):
    ollamaq.publish(untold, to="file", output=tmp_path / "out")
    assert "tokenizer.chat_template" not in read_gguf(tmp_path / "out" / "model.gguf").metadata
    assert "untold has no chat template" in caplog.text
    assert "suggest chatml: if that is right, add --chat-format chatml" in caplog.text


def test_what_a_model_without_chat_template_is_prompted_by_is_said(untold, tmp_path):
    said = run("publish", untold, "--to", "file", "--output", tmp_path / "out").stdout
    assert "prompted as the server guesses: the model has no chat template" in " ".join(said.split())


def test_a_named_format_gives_template_stops_and_sampling(untold, tmp_path, caplog):
    ollamaq.publish(untold, chat_format="lfm2", to="file", output=tmp_path / "out")
    known = find_format("lfm2")
    assert read_gguf(tmp_path / "out" / "model.gguf").metadata["tokenizer.chat_template"].value == protect(
        template("lfm2")
    )
    modelfile = (tmp_path / "out" / "Modelfile").read_text()
    assert "PARAMETER temperature 0.2\n" in modelfile  # generation_config.json's
    assert "PARAMETER min_p 0.15\n" in modelfile
    assert "PARAMETER stop <|im_end|>\n" in modelfile
    told = json.loads((tmp_path / "out" / "release.json").read_text())
    assert told["chat_format"] == {"name": "lfm2", "source": known.source}
    assert not caplog.text


def test_a_format_that_the_model_contradicts_replaces_its_template_only_on_demand(tiny_checkpoint, tmp_path):
    directory = tiny_checkpoint()
    refused = run("convert", directory, tmp_path / "model.gguf", "--chat-format", "alpaca")
    assert refused.exit_code == 2
    assert "has a chat template of its own, whose prompts are not those of alpaca" in refused.stderr
    assert "--replace-template" in refused.stderr
    assert not (tmp_path / "model.gguf").exists()
    done = run("convert", directory, tmp_path / "model.gguf", "--chat-format", "alpaca", "--replace-template")
    assert done.exit_code == 0
    found = read_gguf(tmp_path / "model.gguf").metadata["tokenizer.chat_template"].value
    assert found == template("alpaca")


def test_a_template_with_the_prompts_of_the_format_stays_as_it_is(tiny_checkpoint, tmp_path):
    own = "{# tools, too #}" + find_format("chatml").jinja
    directory = tiny_checkpoint(tokenizer_config={"chat_template": own})
    assert run("convert", directory, tmp_path / "a.gguf", "--chat-format", "ChatML").exit_code == 0
    assert read_gguf(tmp_path / "a.gguf").metadata["tokenizer.chat_template"].value == own


def test_a_gguf_without_chat_template_takes_a_format_too(untold, tmp_path, caplog):
    converted = run("convert", untold, tmp_path / "a.gguf", "--outtype", "f16")
    assert "add --chat-format chatml" in converted.stderr
    plan = ("publish", tmp_path / "a.gguf", "--q", "Q8_0", "--to", "file", "--dry-run")
    assert run(*plan).exit_code == 0
    assert "add --chat-format chatml" in caplog.text
    ollamaq.publish(tmp_path / "a.gguf", quantization="Q8_0", chat_format="vicuna", to="file", output=tmp_path / "out")
    found = read_gguf(tmp_path / "out" / "model.gguf").metadata["tokenizer.chat_template"].value
    assert found == protect(template("vicuna"))
    assert "PARAMETER stop USER:\n" in (tmp_path / "out" / "Modelfile").read_text()


def test_replacing_by_nothing_is_refused(untold, tmp_path):
    refused = run("convert", untold, tmp_path / "a.gguf", "--replace-template")
    assert refused.exit_code == 2
    assert "--replace-template without --chat-format" in refused.stderr


def findings(directory, modelfile):
    (directory / "model.gguf").write_bytes(b"GGUF")
    return lint(f"FROM ./model.gguf\nLICENSE MIT\n{modelfile}", directory)


def template_of(name):
    return f'TEMPLATE """{find_format(name).go}"""\n'


def test_a_format_without_its_stop_is_found_and_mended(tmp_path):
    (found,) = findings(tmp_path, template_of("alpaca"))
    assert (found.rule.id, found.fix.text) == ("OQ203", "\nPARAMETER stop ### Instruction:")
    assert not findings(tmp_path, template_of("alpaca") + "PARAMETER stop ### Resp")


def test_a_stop_within_the_answers_of_a_format_is_found(tmp_path):
    stops = "PARAMETER stop <|return|>\nPARAMETER stop <|end|>\n"
    (found,) = findings(tmp_path, template_of("gpt-oss") + stops)
    assert (found.rule.id, found.line) == ("OQ202", len(find_format("gpt-oss").go.splitlines()) + 4)
    assert not findings(tmp_path, template_of("phi-3") + "PARAMETER stop <|end|>")


def test_a_template_that_misses_a_format_by_little_is_told_where(tmp_path):
    wrong = template_of("gemma").replace("<end_of_turn>\n", "<end_of_turn>", 1)
    (found,) = findings(tmp_path, wrong + "PARAMETER stop <end_of_turn>")
    assert found.rule.id == "OQ213"
    assert "almost that of gemma: it says ' glass.<end_of_turn><start_of_turn>user" in found.message


def test_another_system_message_or_format_of_ones_own_is_no_almost_copy(tmp_path):
    own = "{{ range .Messages }}[{{ .Role }}] {{ .Content }} [end]\n{{ end }}[assistant] "
    assert not findings(tmp_path, f'TEMPLATE """{own}"""')
    default = template_of("qwen2.5").replace("You are Qwen, created by Alibaba Cloud.", "You are a pirate.")
    assert not findings(tmp_path, default + "PARAMETER stop <|im_end|>")


def test_a_template_writes_a_bos_only_where_the_vocabulary_begins_texts_with_one(tiny_checkpoint, tmp_path):
    bos = {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}
    begun = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"<|endoftext|>": bos},
    }
    for name, more in (("with", {"post_processor": begun}), ("without", {})):
        config = {"bos_token": "<|endoftext|>"}
        directory = tiny_checkpoint(name, without_template=True, tokenizer=more, tokenizer_config=config)
        known = open_source(directory, chat_format="alpaca").model.metadata
        assert known["tokenizer.chat_template"].value.startswith("{{- bos_token }}") is (name == "with")


def test_a_named_format_converts_as_a_directory_with_its_template_does(untold, tmp_path):
    assert run("convert", untold, tmp_path / "a.gguf", "--chat-format", "chatml").exit_code == 0
    (untold / "chat_template.jinja").write_text(find_format("chatml").jinja)
    assert run("convert", untold, tmp_path / "b.gguf").exit_code == 0
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
