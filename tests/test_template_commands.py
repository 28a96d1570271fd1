"""``ollamaq template``: what forms a template has, and where two of them differ."""

import json

import httpx
import pytest
from typer.testing import CliRunner

from ollamaq.chat.compare import DIFFERS, EQUAL, LIMIT, REFUSED, compare
from ollamaq.chat.conversations import SUITE, Conversation
from ollamaq.chat.forms import open_form
from ollamaq.checkpoint import open_checkpoint
from ollamaq.cli import app
from ollamaq.convert import convert
from ollamaq.gguf.writer import write
from ollamaq.ollama.client import Client

JINJA = (
    "{%- for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor -%}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
GO = (
    "{{ range $i, $m := .Messages }}<|{{ .Role }}|>{{ .Content }}"
    "{{ if not (and (eq .Role `assistant`) .Content (eq (len (slice $.Messages $i)) 1)) }}\n{{ end }}{{ end }}"
    "{{ $last := index .Messages (len (slice (printf `%*s` (len .Messages) ``) 1)) }}"
    "{{ if not (and (eq $last.Role `assistant`) $last.Content) }}<|assistant|>{{ end }}"
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jinja").write_text(JINJA)
    (tmp_path / "b.gotmpl").write_text(GO)

    def invoke(*arguments):
        return CliRunner().invoke(app, ["template", *map(str, arguments)])

    return invoke


def test_two_forms_of_one_format_are_equal_but_for_what_ollama_cannot(run):
    result = run("check", "a.jinja", "b.gotmpl", "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == 0, result.stdout
    assert told["counts"] == {EQUAL: len(SUITE) - 2, LIMIT: 2}
    limits = {entry["name"]: entry["why"] for entry in told["conversations"] if entry["verdict"] == LIMIT}
    assert limits.keys() == {"two messages of one role", "two answers in a row"}
    assert set(limits.values()) == {"it merges messages of one role in a row"}


@pytest.mark.parametrize("gone", ["gone.gotmpl", "./gone", "/nowhere/gone", "gone.gguf"])
def test_a_path_at_which_there_is_nothing_is_no_name_of_a_model(run, gone, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    result = run("check", "a.jinja", gone)
    assert result.exit_code == 2
    assert f"there is nothing at {gone}" in result.stderr
    assert run("check", "a.jinja", "team/bot").exit_code == 4  # that server is not there


def test_the_first_difference_is_shown_side_by_side(run, tmp_path):
    (tmp_path / "Modelfile").write_text('FROM x\nTEMPLATE """' + GO.replace("<|{{", "<|{{ ` ` }}{{") + '"""\n')
    result = run("check", "a.jinja", "Modelfile")
    assert result.exit_code == 1
    assert "no system message: the first difference is at byte 2" in result.stdout
    assert "<|user|>What·is·the" in result.stdout
    assert "<|·user|>" in result.stdout


def test_conversations_of_a_file_are_compared(run, tmp_path):
    chats = tmp_path / "chats.jsonl"
    chats.write_text('{"messages": [{"role": "user", "content": "é"}]}\n\n[{"role": "user", "content": "b"}]\n')
    told = json.loads(run("check", "a.jinja", "b.gotmpl", "--chats", chats, "--json").stdout)
    assert [entry["name"] for entry in told["conversations"]] == ["chats.jsonl:1", "chats.jsonl:3"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "no conversations"),
        ("{", "line 1 is not JSON"),
        ("3", "line 1 has no list of messages"),
        ('{"messages": [3]}', "line 1 has no list of messages"),
        ('{"messages": [], "tools": [3]}', "tools is no list"),
        ('{"messages": [{"tool_calls": [3]}]}', "a tool call has no function"),
    ],
)
def test_a_line_that_is_no_conversation_is_refused_by_its_number(run, tmp_path, line, says):
    (tmp_path / "chats.jsonl").write_text(line)
    result = run("check", "a.jinja", "b.gotmpl", "--chats", "chats.jsonl")
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_directory_and_the_gguf_of_it_have_one_form(run, tmp_path, tiny_checkpoint):
    directory = tiny_checkpoint()
    write(tmp_path / "model.gguf", convert(open_checkpoint(directory), "f16"))
    assert run("check", directory, "model.gguf").exit_code == 0
    shown = json.loads(run("show", "model.gguf", "--json").stdout)
    assert shown["language"] == "Jinja"
    assert shown["template"] == open_checkpoint(directory).chat_template


def test_show_tells_what_a_template_makes_use_of(run, tmp_path):
    (tmp_path / "c.gotmpl").write_text("{{ range .Messages }}{{ .Thinking }}{{ end }}{{ json .Tools }}")
    told = json.loads(run("show", "c.gotmpl", "--json").stdout)
    assert (told["language"], told["variables"]) == ("Go", ["messages", "thinking", "tools"])
    (tmp_path / "c.jinja").write_text("{{ bos_token }}{{ tools }}{{ messages }}")
    assert json.loads(run("show", "c.jinja", "--json").stdout)["variables"] == ["bos_token", "tools"]


@pytest.mark.parametrize(
    ("name", "text", "code", "says"),
    [
        ("x.gotmpl", "a\n{{ if }}", 3, "line 2, column"),
        ("x.jinja", "{% if %}", 3, "the chat template fails"),
        ("Modelfile", "FROM x\n", 2, "has no chat template"),
        ("x.gguf", "GGUF", 3, "x.gguf"),
    ],
)
def test_a_source_without_a_template_is_refused(run, tmp_path, name, text, code, says):
    (tmp_path / name).write_text(text)
    result = run("show", name)
    assert result.exit_code == code
    assert says in result.stderr


def test_a_model_on_a_server_is_rendered_by_the_server(run, monkeypatch):
    def answer(request):
        asked = json.loads(request.content)
        if request.url.path == "/api/show":
            return httpx.Response(200, json={"template": JINJA})
        text = "".join(f"<|{message['role']}|>{message['content']}\n" for message in asked["messages"])
        return httpx.Response(200, json={"_debug_info": {"rendered_template": text + "<|assistant|>"}})

    init = Client.__init__
    monkeypatch.setattr(Client, "__init__", lambda self, url: init(self, url, transport=httpx.MockTransport(answer)))
    told = json.loads(run("check", "a.jinja", "bot", "--json").stdout)
    wrong = [entry["name"] for entry in told["conversations"] if entry["verdict"] != EQUAL]
    assert wrong == ["answer to go on with", "answer to go on with, after turns"]


def test_a_bos_that_one_side_writes_is_no_difference_and_one_that_both_write_is_kept(tmp_path, tiny_checkpoint):
    bos = {"bos_token": "<s>", "add_bos_token": True, "chat_template": "{{ bos_token }}" + JINJA}
    form = open_form(str(tiny_checkpoint(tokenizer_config=bos)))
    (tmp_path / "b.gotmpl").write_text(GO)
    chat = {"one": Conversation([{"role": "user", "content": "Hi."}])}
    assert compare(form, open_form(str(tmp_path / "b.gotmpl")), chat)[0].verdict == EQUAL
    (tmp_path / "c.gotmpl").write_text("<s>" + GO)
    (verdict,) = compare(form, open_form(str(tmp_path / "c.gotmpl")), chat)
    assert (verdict.verdict, verdict.a[:3]) == (EQUAL, "<s>")


def test_what_a_jinja_template_refuses_is_no_difference(tmp_path):
    (tmp_path / "a.jinja").write_text("{{ raise_exception('no') }}")
    (tmp_path / "b.gotmpl").write_text(GO)
    forms = [open_form(str(tmp_path / name)) for name in ("a.jinja", "b.gotmpl")]
    assert {verdict.verdict for verdict in compare(*forms, SUITE)} == {REFUSED}
    (tmp_path / "c.gotmpl").write_text("{{ .Messages.Nothing }}")
    other = open_form(str(tmp_path / "c.gotmpl"))
    assert {verdict.verdict for verdict in compare(forms[1], other, SUITE)} == {DIFFERS}


def test_known_formats_are_listed_shown_and_compared(run):
    listed = json.loads(run("list", "--json").stdout)["formats"]
    assert next(row["stops"] for row in listed if row["name"] == "chatml") == ["<|im_end|>"]
    assert "###·Instruction:" in run("list").stdout
    told = json.loads(run("show", "format:qwen3", "--json").stdout)
    assert told["language"] == "Go"
    assert told["variables"] == ["content", "isthinkset", "messages", "role", "think", "thinking"]
    assert told["format"]["parameters"]["top_k"] == 20
    assert "top_k 20" in run("show", "format:qwen3.jinja").stdout
    assert run("check", "format:qwen3", "format:qwen3.jinja").exit_code == 0
    wrong = run("show", "format:chatlm")
    assert wrong.exit_code == 2
    assert "did you mean chatml?" in wrong.stderr
