"""``ollamaq modelfile`` behaves as linters and formatters do; what it says of differences and effects is true."""

import json
import re
from pathlib import Path

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from ollamaq.cli import app
from ollamaq.modelfile.diff import comparable, diff, meaning, server_meaning
from ollamaq.modelfile.explain import explain
from ollamaq.modelfile.files import find_modelfiles
from ollamaq.modelfile.parser import parse
from ollamaq.modelfile.versions import parse_version
from ollamaq.ollama.client import Client

CLEAN = "FROM llama3.2\nPARAMETER seed 1\n"
MESSY = "from llama3.2\nPARAMETER  seed 1\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments, text=None):
        return CliRunner().invoke(app, ["modelfile", *map(str, arguments)], input=text)

    return invoke


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_lint_exits_with_nothing_findings_or_trouble(run, tmp_path):
    write(tmp_path / "Modelfile", CLEAN)
    assert (run("lint").exit_code, run("lint").stdout) == (0, "")
    write(tmp_path / "Modelfile", MESSY)
    result = run("lint")
    assert result.exit_code == 1
    assert result.stdout.startswith("Modelfile:2:1: OQ102 [*] ")
    assert "1 problem in 1 file" in result.stderr
    for wrong in (["nowhere"], ["--select", "E1"], ["--output-format", "xml"], ["--ollama", "new"]):
        assert run("lint", *wrong).exit_code == 2, wrong
    assert run("lint", "--ignore", "OQ102").exit_code == 0


def test_lint_finds_modelfiles_below_a_directory(run, tmp_path):
    for name in ("Modelfile", "Modelfile.dev", "team/bot.Modelfile", ".git/Modelfile", "notes.txt"):
        write(tmp_path / name, MESSY)
    data = json.loads(run("lint", "--output-format", "json", tmp_path).stdout)
    assert data["files"] == 3
    assert [finding["path"].removeprefix(f"{tmp_path.as_posix()}/") for finding in data["findings"]] == [
        "Modelfile",
        "Modelfile.dev",
        "team/bot.Modelfile",
    ]


def test_the_hooks_run_on_the_files_that_are_found_below_a_directory(tmp_path):
    hooks = yaml.safe_load((Path(__file__).parent.parent / ".pre-commit-hooks.yaml").read_text())
    assert [hook["entry"].split()[-1] for hook in hooks] == ["lint", "fmt"]
    names = ("Modelfile", "Modelfile.dev", "a/bot.modelfile", "bot.Modelfile", "Modelfiles", "NotModelfile", "x.txt")
    for name in names:
        write(tmp_path / name, CLEAN)
    found = {path.relative_to(tmp_path).as_posix() for path in find_modelfiles([tmp_path])}
    for hook in hooks:
        assert {name for name in names if re.search(hook["files"], name)} == found


def test_lint_fixes_files_in_place(run, tmp_path):
    path = write(tmp_path / "Modelfile", MESSY)
    assert run("lint", "--fix").exit_code == 0
    assert path.read_text() == "from llama3.2\nPARAMETER seed 1\n"


def test_lint_fixes_standard_input_to_standard_output(run):
    result = run("lint", "--fix", "-", text=MESSY + "PARAMETER x 1\n")
    assert result.stdout == "from llama3.2\nPARAMETER seed 1\nPARAMETER x 1\n"
    assert "Modelfile:3:1: OQ101" in result.stderr
    assert result.exit_code == 1


def test_lint_looks_for_files_beside_what_standard_input_stands_for(run, tmp_path):
    write(tmp_path / "team" / "model.gguf", "GGUF")
    text = "FROM ./model.gguf\nLICENSE MIT\n"
    assert run("lint", "-", "--stdin-filename", "team/Modelfile", text=text).exit_code == 0
    assert run("lint", "-", text=text).exit_code == 1


def test_lint_checks_against_a_model(run, tmp_path, tiny_checkpoint):
    write(tmp_path / "Modelfile", CLEAN + "PARAMETER num_ctx 100000\n")
    result = run("lint", "--model", tiny_checkpoint(), "--name", "bot:local")
    assert [line.split()[1] for line in result.stdout.splitlines()] == ["OQ309", "OQ502", "OQ501"]


def test_lint_checks_against_a_servers_memory(run, tmp_path, tiny_checkpoint):
    write(tmp_path / "Modelfile", CLEAN + "PARAMETER num_ctx 512\nPARAMETER stop <|im_end|>\n")
    model = ["--model", tiny_checkpoint(), "--memory"]
    assert run("lint", *model, "512K").exit_code == 0
    result = run("lint", *model, str((512 << 10) - 1))
    assert (result.exit_code, result.stdout.split()[1]) == (1, "OQ505")
    assert run("lint", "--memory", "16G").exit_code == 2


def test_fmt_rewrites_checks_and_shows(run, tmp_path):
    path = write(tmp_path / "Modelfile", MESSY)
    checked = run("fmt", "--check")
    assert (checked.exit_code, checked.stdout) == (1, "would reformat Modelfile\n")
    shown = run("fmt", "--diff")
    assert shown.exit_code == 1
    assert (
        shown.stdout
        == "--- Modelfile\n+++ Modelfile\n@@ -1,2 +1,2 @@\n-from llama3.2\n+FROM llama3.2\n PARAMETER  seed 1\n"
    )
    assert path.read_text() == MESSY
    assert run("fmt").exit_code == 0
    assert path.read_text() == "FROM llama3.2\nPARAMETER  seed 1\n"
    assert run("fmt", "--check").exit_code == 0


def test_fmt_goes_on_after_a_file_that_it_cannot_read(run, tmp_path):
    write(tmp_path / "a.Modelfile", "FORM x\n")
    path = write(tmp_path / "b.Modelfile", "from x\n")
    result = run("fmt")
    assert result.exit_code == 2
    assert "a.Modelfile: line 1: 'FORM' is not an instruction" in result.stderr
    assert path.read_text() == "FROM x\n"


def test_bytes_in_another_encoding_are_not_written_over(run, tmp_path):
    path = tmp_path / "Modelfile"
    path.write_bytes("from x\nSYSTEM Caf\u00e9\nPARAMETER  seed 1\n".encode("latin-1"))
    before = path.read_bytes()
    assert run("fmt").exit_code == 2
    assert [line.split()[1] for line in run("lint", "--fix").stdout.splitlines()] == ["OQ005", "OQ102"]
    assert path.read_bytes() == before


def test_fmt_of_standard_input_goes_to_standard_output(run):
    assert run("fmt", "-", text="from x").stdout == "FROM x\n"


def test_rule_explains(run):
    assert "# OQ101 unknown-parameter" in run("rule", "OQ101").stdout
    assert "OQ304  adapter" in run("rule").stdout
    assert run("rule", "OQ999").exit_code == 2


def test_diff_is_of_what_is_meant(run, tmp_path):
    a = write(tmp_path / "a", 'FROM x\nPARAMETER stop b\nPARAMETER stop a\nSYSTEM "Be brief."\nPARAMETER top_p 0.90\n')
    b = write(
        tmp_path / "b",
        "# new\nFROM x\nPARAMETER top_p .9\nSYSTEM no\nSYSTEM Be brief.\nPARAMETER stop a\nPARAMETER stop b\n",
    )
    assert (run("diff", a, b).exit_code, run("diff", a, b).stdout) == (0, "")
    write(b, 'FROM y\nSYSTEM """Be brief.\nBe kind."""\nPARAMETER top_p 0.9\nPARAMETER stop a\nPARAMETER mirostat 1\n')
    result = run("diff", a, b)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "-FROM x",
        "+FROM y",
        "-PARAMETER stop a",
        "-PARAMETER stop b",
        "+PARAMETER stop a",
        " SYSTEM",
        "@@ -1 +1,2 @@",
        " Be brief.",
        "+Be kind.",
    ]
    assert json.loads(run("diff", a, b, "--json").stdout)["changes"][0] == {"what": "FROM", "a": ["x"], "b": ["y"]}


# What /api/show of Ollama 0.34.2 tells of a model made from MADE.
SHOWN = {
    "license": "MIT",
    "modelfile": "# made by show\n\nFROM /m/blobs/sha256-00\nTEMPLATE {{ .Prompt }}\nRENDERER qwen3-coder\n",
    "parameters": 'stop            "<|im_end|>"\nstop            "\\n\\u00e9"\ntemperature     0.7',
    "template": "{{ .Prompt }}",
    "system": "Be brief.",
    "messages": [{"role": "user", "content": "hi"}],
    "requires": "0.14.0",
}
MADE = (
    "FROM ./model.gguf\nSYSTEM Be brief.\nPARAMETER temperature 0.70\nPARAMETER stop <|im_end|>\n"
    'PARAMETER stop "\né"\nRENDERER qwen3-coder\nLICENSE MIT\nMESSAGE user hi\nREQUIRES 0.14.0\n'
)


def test_a_server_that_has_the_model_does_not_differ():
    assert diff(*comparable(meaning(parse(MADE)), server_meaning(SHOWN))) == []


def test_a_server_that_has_another_model_differs(run, tmp_path, monkeypatch):
    def answer(request):
        assert json.loads(request.content) == {"model": "bot"}
        return httpx.Response(200, json=SHOWN | {"system": "Be kind."})

    init = Client.__init__
    monkeypatch.setattr(Client, "__init__", lambda self, url: init(self, url, transport=httpx.MockTransport(answer)))
    write(tmp_path / "Modelfile", MADE)
    result = run("diff", "Modelfile", "bot")
    assert (result.exit_code, result.stdout) == (1, "-SYSTEM Be brief.\n+SYSTEM Be kind.\n")


def test_a_model_is_compared_by_what_it_says_itself(run, tmp_path, tiny_checkpoint):
    model = tiny_checkpoint()
    (model / "generation_config.json").write_text('{"temperature": 0.5}')
    (model / "README.md").write_text("---\nlicense: mit\n---\n")
    assert run("init", model, "-o", "made", "--yes").exit_code == 0
    assert (run("diff", model, "made").exit_code, run("diff", model, "made").stdout) == (0, "")
    write(tmp_path / "made", (tmp_path / "made").read_text().replace("temperature 0.5", "temperature 1"))
    result = run("diff", model, "made")
    assert (result.exit_code, result.stdout) == (1, "-PARAMETER temperature 0.5\n+PARAMETER temperature 1\n")


def test_a_side_that_cannot_be_read_is_one_sentence(run, tmp_path):
    write(tmp_path / "Modelfile", CLEAN)
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    result = run("diff", "Modelfile", "dangling")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: cannot read dangling: No such file or directory\nnext: ")


def test_a_gguf_and_its_directory_have_one_chat_template(run, tmp_path, tiny_checkpoint):
    model = tiny_checkpoint()
    gguf = CliRunner().invoke(app, ["convert", str(model), str(tmp_path / "model.gguf")])
    assert gguf.exit_code == 0
    assert "TEMPLATE" not in run("diff", "model.gguf", model).stdout
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": "{{ messages }}"}))
    result = run("diff", "model.gguf", model)
    assert result.exit_code == 1
    assert "+TEMPLATE {{ messages }}" in result.stdout


@pytest.mark.parametrize(
    ("line", "version", "said"),
    [
        (
            "PARAMETER temperature 0.5",
            "0.34.2",
            "samples at temperature 0.5 (0: always the likeliest token); without it 0.8",
        ),
        ("PARAMETER mirostat 2", "0.34.2", "does nothing: Ollama drops it with a warning since 0.7.0"),
        ("PARAMETER mirostat 2", "0.6.0", "chose a sampler"),
        ("PARAMETER typical_p 1", "0.34.2", "refused: Ollama has no typical_p since 0.34.1"),
        ("PARAMETER min_p 0.1", "0.3.0", "refused: Ollama has min_p since 0.3.1"),
        ("PARAMETER top_k many", "0.34.2", "refused: 'many' is not a value of top_k"),
        ("PARAMETER hot 1", "0.34.2", "refused: Ollama has no parameter 'hot'"),
        ('PARAMETER stop "\n"', "0.34.2", r"ends an answer before '\n'"),
        ("ADAPTER ./lora", "0.34.2", "refused: Ollama takes no adapters since 0.34.1"),
        ("ADAPTER ./lora", "0.34.0", "is added to the weights"),
        ("DRAFT ./small.gguf", "0.20.0", "refused: Ollama knows DRAFT since 0.23.1"),
        ("TEMPLATE {{ .Prompt }}", "0.34.2", "unless that one can do tools"),
        ("TEMPLATE {{ .Prompt }}", "0.29.0", "only compared with known ones"),
        ("TEMPLATE {{ .Prompt }}\nRENDERER lfm2", "0.34.2", "is stored but not used"),
        ("SYSTEM a\nSYSTEM b", "0.34.2", "does nothing: line 3 says it again"),
        ("FROM ./model.gguf", "0.34.2", "uploads the file as it is"),
        ("FROM ./model.gguf", "0.33.0", "the server writes the GGUF anew"),
        ("FROM ./missing.gguf", "0.34.2", "Ollama takes this for a model's name"),
    ],
)
def test_explain_says_what_a_line_does_on_a_version(tmp_path, line, version, said):
    write(tmp_path / "model.gguf", "GGUF")
    told = explain(parse(f"FROM llama3.2\n{line}\n"), tmp_path, parse_version(version))
    assert said in told[1][1]


def test_explain_prints_each_line(run, tmp_path):
    write(tmp_path / "Modelfile", CLEAN)
    assert run("explain", "Modelfile").stdout.splitlines()[2:] == [
        "2: PARAMETER seed 1",
        "    draws random numbers from seed 1 (-1: another one each time); without it -1",
    ]
    data = json.loads(run("explain", "Modelfile", "--ollama", "0.30.0", "--json").stdout)
    assert data["instructions"][1]["line"] == 2
    assert run("explain", "Modelfile", "--ollama", "latest").exit_code == 2
