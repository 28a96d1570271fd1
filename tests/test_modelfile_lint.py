"""Every rule finds what it is for, and nothing else; fixes put things right; reports are what their readers take."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from ollamaq.chat.known import known_formats
from ollamaq.cli import app
from ollamaq.errors import UsageError
from ollamaq.modelfile.facts import ModelFacts, model_facts
from ollamaq.modelfile.lint import Settings, choose, fix, lint
from ollamaq.modelfile.lint.explain import pages
from ollamaq.modelfile.lint.report import FORMATS
from ollamaq.modelfile.lint.table import RULES
from ollamaq.modelfile.parser import parse
from ollamaq.modelfile.versions import parse_version

DOCS = Path(__file__).parent.parent / "docs" / "rules"
TOOLS = "{% for m in messages %}{{ m.content }}{{ m.tool_calls }}{% endfor %}{{ tools }}"
MODEL = ModelFacts(
    131072,
    frozenset({"<|im_start|>", "<|im_end|>", "<s>"}),
    ("<|im_end|>",),
    adds_bos=True,
    chat_template=TOOLS,
    cache_bytes=30720,
)


@pytest.fixture
def directory(tmp_path):
    """Where ``FROM ./model.gguf`` leads to something."""
    for name, data in {"model.gguf": b"GGUF", "draft.gguf": b"GGUF", "notes.gguf": b"version https://git-lfs"}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "model.safetensors").write_bytes(b"")
    return tmp_path


def whole(text):
    return text if re.search("^F(RO|OR)M ", text, re.MULTILINE) else f"FROM llama3.2\n{text}"


def ids(findings):
    return [finding.rule.id for finding in findings]


def settings_of(rule):
    return Settings(model=MODEL, memory=1 << 30) if rule.id.startswith("OQ5") else Settings()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_finds_its_bad_example_and_nothing_in_its_good_one(directory, rule):
    settings = settings_of(rule)
    named = replace(settings, name="bot:cloud") if rule.name == "reserved-name" else settings
    assert rule.id in ids(lint(whole(rule.bad), directory, settings=named))
    assert ids(lint(whole(rule.good), directory, settings=settings)) == []
    assert len(rule.why) > 40


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.fixable], ids=lambda rule: rule.id)
def test_a_fixable_rule_has_nothing_to_say_after_its_fix(directory, rule):
    settings = Settings(model=MODEL) if rule.name == "bos-in-template" else settings_of(rule)
    text, count = fix(whole(rule.bad), directory, settings=settings, rules=[rule, *choose(["OQ105"])])
    assert count
    assert rule.id not in ids(lint(text, directory, settings=settings))
    assert fix(text, directory, settings=settings, rules=[rule]) == (text, 0)
    parse(text)


def test_rules_have_ids_and_names_of_their_own():
    assert len({rule.id for rule in RULES}) == len({rule.name for rule in RULES}) == len(RULES)
    assert [rule.id for rule in RULES] == sorted(rule.id for rule in RULES)


def test_there_is_an_up_to_date_page_for_every_rule_and_no_other():
    found = {path.name: path.read_text(encoding="utf-8") for path in DOCS.iterdir()}
    assert found == pages(), "python docs/make_rules.py"


def test_a_finding_has_its_place():
    (finding,) = lint("FROM llama3.2\n\nPARAMETER num_ctx   4k\n")
    assert (finding.line, finding.column, finding.end_line, finding.end_column) == (3, 21, 3, 23)
    assert finding.message == "num_ctx must be an integer, not '4k'"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PARAMETER typical_p 0.5", "Ollama refuses typical_p since 0.34.1"),
        ("PARAMETER Temperature 1", "unknown parameter 'Temperature'; did you mean temperature?"),
        ("PARAMETER temperature nan", "temperature is nan, which is no number to work with"),
        ("PARAMETER num_predict -3", "num_predict is -3; the least that makes sense is -2"),
        ("PARSER qwen-coder", "Ollama has no parser 'qwen-coder'; did you mean qwen3-coder?"),
        ("SYSTEM key sk-abcdefghijklmnopqrstuvwx", "this looks like an API key"),
        ("FROM ./missing-*.gguf\nLICENSE x", "there is nothing at './missing-*.gguf'"),
        ("FROM ./model.gguf\nLICENSE x\nDRAFT model.gguf", "'model.gguf' is the model of FROM too"),
        ("FROM x:local:y", "Ollama would refuse the name"),
        ("REQUIRES 0.40.0", "it requires Ollama 0.40.0, and is for 0.34.2"),
    ],
)
def test_a_finding_says_what_is_wrong(directory, text, expected):
    assert [finding.message for finding in lint(whole(text), directory) if expected in finding.message]


@pytest.mark.parametrize(
    "text",
    [
        "FROM llama3.2:local",
        "FROM hf.co/team/model-GGUF:Q4_K_M",
        "FROM ./m*.gguf\nFROM ./draft.gguf\nLICENSE x",
        "SYSTEM '",
        'SYSTEM Say "yes" or "no".',
        "SYSTEM Use C# and #tags.",
        "TEMPLATE {{ range $i, $_ := .Messages }}{{ .Content }}{{ end }}\nSYSTEM Be brief.",
        "TEMPLATE <bos>{{ .Prompt }}",
        "PARAMETER stop ### User:",
        'SYSTEM """\nSYSTEM here is kind.\n"""',
    ],
)
def test_what_is_right_is_left_alone(directory, text):
    assert ids(lint(whole(text), directory)) == []


def test_rules_know_the_version_of_ollama():
    text = "FROM llama3.2\nADAPTER ./lora\nPARAMETER typical_p 0.5\nPARAMETER mirostat 1\n"
    assert ids(lint(text)) == ["OQ304", "OQ104", "OQ104"]
    assert ids(lint(text, settings=Settings(parse_version("0.34.0")))) == ["OQ104"]
    assert ids(lint(text, settings=Settings(parse_version("0.6.8")))) == []


def test_rules_know_the_model(tiny_checkpoint):
    facts = model_facts(tiny_checkpoint())
    assert facts.context_length == 512
    assert facts.ends[0] == "<|im_end|>"
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} == facts.special
    text = "FROM llama3.2\nPARAMETER num_ctx 513\nPARAMETER stop <|eot_id|>\n"
    assert ids(lint(text, settings=Settings(model=facts))) == ["OQ502", "OQ501", "OQ503"]


def test_a_token_of_context_takes_what_llama_cpp_keeps_for_it(tiny_checkpoint, tmp_path):
    checkpoint = tiny_checkpoint()
    facts = model_facts(checkpoint)
    # SmolLM2-135M has 30 layers, not 2, and 4 heads, not 2: llama-server tells 120 MiB for 4096 tokens of it
    assert facts.cache_bytes * 15 * 2 * 4096 == 120 << 20
    assert facts.weights == 0
    windowed = tmp_path / "windowed.gguf"
    override = ["--override-kv", "llama.attention.sliding_window=int:128"]
    CliRunner().invoke(app, ["quantize", str(checkpoint), str(windowed), *override])
    assert model_facts(windowed).cache_bytes is None
    assert model_facts(windowed).weights == windowed.stat().st_size


@pytest.mark.parametrize(
    ("version", "then"), [("0.34.2", "that one is used instead of this"), ("0.29.0", "Ollama refuses what this lacks")]
)
def test_what_becomes_of_a_template_without_tools_depends_on_the_version(version, then):
    settings = Settings(parse_version(version), MODEL)
    (finding,) = lint("FROM x\nTEMPLATE {{ .Prompt }}!\nPARAMETER stop <|im_end|>\n", settings=settings)
    assert finding.message == f"the model's chat template has tools, and this TEMPLATE has not: {then}"


def test_fields_are_seen_behind_variables():
    """As in the TEMPLATEs that we derive."""
    said = (
        "{{ range $m := .Messages }}{{ $m.Role }}{{ range $c := $m.ToolCalls }}{{ $c.Function.Name }}{{ end }}{{ end }}"
    )
    assert "OQ209" not in ids(lint(f"FROM llama3.2\nTEMPLATE {said}{{{{ .Tools }}}}\nPARSER glm-4.7"))
    assert "OQ209" in ids(lint(f"FROM llama3.2\nTEMPLATE {said}"))


def test_known_formats_have_all_of_tools_or_nothing_of_them():
    for known in known_formats().values():
        assert ids(lint(f'FROM x\nTEMPLATE """{known.go}"""\n', rules=choose(["OQ209"]))) == [], known.name


def test_a_comment_with_a_reason_silences_a_rule_for_the_instruction_below():
    ignored = "# ollamaq: ignore OQ105, OQ103 it is an experiment\n# another comment\nPARAMETER top_p 9\n"
    assert ids(lint(f"FROM llama3.2\n{ignored}")) == []
    assert ids(lint(f"FROM llama3.2\n{ignored}PARAMETER top_k -1\n")) == ["OQ105"]


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("# ollamaq: ignore OQ105", "it gives no reason for ignoring OQ105"),
        ("#ollamaq: ignore OQ999 because", "no rule has the id 'OQ999'"),
        ("# ollamaq: ignore", "it names no rule"),
    ],
)
def test_a_comment_that_silences_nothing_is_found(comment, message):
    findings = lint(f"FROM llama3.2\n{comment}\nPARAMETER top_p 9\n")
    assert findings[0].message == message
    assert ids(findings) == ["OQ002", "OQ105"]


def test_fixes_that_touch_each_other_are_done_in_turn(directory):
    text = "FROM llama3.2\nPARAMETER  seed 1\nPARAMETER seed 2\nPARAMETER seed 3 # last\nSYSTEM a\u00a0b\n"
    fixed, _ = fix(text, directory)
    assert fixed == "FROM llama3.2\n# last\nPARAMETER seed 3\nSYSTEM a b\n"


@pytest.mark.parametrize(
    "text",
    [
        "SYSTEM a\n" * 20_000,
        "SYSTEM a" + " " * 200_000 + "b\n",
        "SYSTEM " + "a # " * 50_000 + "\n",
        "TEMPLATE " + "{{" * 100_000 + "\n",
        "PARAMETER " + "a" * 100_000 + " 1\n",
        "RENDERER " + "qwen" * 50_000 + "\n",
        "SYSTEM " + "eyJ-" * 50_000 + "\n",
        "FROM " + ":-" * 50_000 + "cloud\n",
        "FROM /*/*/*/*/*/*/*.gguf\n",
        "MESSAGE user " + "hi" * 50_000 + "\n# ollamaq: ignore OQ105 x\nPARAMETER top_p 9\n" * 2_000,
    ],
    ids=lambda text: text[:12],
)
def test_hostile_files_are_linted_in_linear_time_with_short_messages(text):
    started = time.process_time()
    findings = lint(f"FROM llama3.2\n{text}")
    assert time.process_time() - started < 5
    assert max((len(finding.message) for finding in findings), default=0) < 400


def test_rules_are_chosen_by_their_ids():
    assert {rule.id[:3] for rule in choose(["OQ1"])} == {"OQ1"}
    assert "OQ101" not in {rule.id for rule in choose(["OQ1"], ["OQ101"])}
    with pytest.raises(UsageError, match="no rule's id begins with 'E501'"):
        choose(["E501"])


FINDINGS = {
    "a,b/Modelfile": lint("FROM llama3.2\nPARAMETER temprature 1\nPARAMETER seed 1\nPARAMETER seed 2\n"),
    "clean": [],
}


def test_text_names_place_rule_and_what_can_be_fixed():
    assert FORMATS["text"](FINDINGS).splitlines() == [
        "a,b/Modelfile:2:1: OQ101 unknown parameter 'temprature'; did you mean temperature? (unknown-parameter)",
        "a,b/Modelfile:3:1: OQ106 [*] only the last seed counts, on line 4 (repeated-parameter)",
    ]


def test_json_has_a_version_and_every_finding():
    data = json.loads(FORMATS["json"](FINDINGS))
    assert (data["schema_version"], data["files"]) == (1, 2)
    assert data["findings"][0] == {
        "path": "a,b/Modelfile",
        "rule": "OQ101",
        "name": "unknown-parameter",
        "severity": "error",
        "message": "unknown parameter 'temprature'; did you mean temperature?",
        "line": 2,
        "column": 1,
        "end_line": 2,
        "end_column": 23,
        "fixable": False,
    }


def test_sarif_refers_to_its_rules():
    (run,) = json.loads(FORMATS["sarif"](FINDINGS))["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rules[result["ruleIndex"]]["id"] for result in run["results"]] == ["OQ101", "OQ106"]
    assert [result["level"] for result in run["results"]] == ["error", "warning"]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "a%2Cb/Modelfile"
    assert place["region"] == {"startLine": 2, "startColumn": 1, "endLine": 2, "endColumn": 23}


def test_github_gets_annotations():
    first, second = FORMATS["github"](FINDINGS).splitlines()
    assert first.startswith("::error file=a%2Cb/Modelfile,line=2,col=1,endLine=2,endColumn=23,title=OQ101 ")
    assert second.startswith("::warning ")


def test_junit_has_a_case_for_each_file():
    root = ElementTree.fromstring(FORMATS["junit"](FINDINGS))
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    failed, clean = suite
    assert failed.find("failure").get("type") == "error"
    assert clean.find("failure") is None
