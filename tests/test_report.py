"""Reports of what was tested: complete, escaped, and readable by those who read such files."""

import json
from xml.etree import ElementTree

import pytest

from ollamaq.errors import UsageError
from ollamaq.report import FORMATS, Outcome, check_reports, step_summary, write_reports
from ollamaq.smoke import CheckResult

HOSTILE = '<script>alert("x")</script> | `a` & \x1b[31m\x00'
CHECKS = [
    CheckResult("loads", True, "answered by Ollama 0.34.2", 1.5, measured={"tokens_per_second": 31.25}),
    CheckResult("answer", False, HOSTILE, 0.5),
    CheckResult("tokens", None, "needs the checkpoint"),
    CheckResult("one of many", False, "no", case="one of many", tolerated=True),
]
RELEASE = {
    "name": "bot:q4_K_M",
    "mix": "Q4_K_M",
    "versions": {"ollamaq": "0.1.0"},
    "gguf": {"file": "model.gguf", "bytes": 1000, "sha256": "ab" * 32},
    "inputs": {"config.json": "cd" * 32},
    "bits_per_weight": 4.5,
    "template": {"strategy": HOSTILE},
    "tensors": [
        {"name": "token_embd.weight", "type": "Q6_K", "shape": [256, 256]},
        {"name": "blk.0.attn_q.weight", "type": "Q4_K", "shape": [256, 256]},
        {"name": "blk.1.attn_q.weight", "type": "Q6_K", "shape": [256, 256]},
        {"name": "blk.1.attn_norm.weight", "type": "F32", "shape": [256]},
    ],
}
TESTED = [Outcome("bot:q4_K_M", "http://127.0.0.1:11434", CHECKS, RELEASE, 4000), Outcome("other", "here", CHECKS[:1])]


def test_junit_counts_each_check_and_is_well_formed():
    root = ElementTree.fromstring(FORMATS[".xml"](TESTED))
    first, second = root.findall("testsuite")
    assert {key: first.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "errors": "0",
        "skipped": "2",
    }
    assert len(first.findall("testcase/failure")) == 1
    assert len(first.findall("testcase/skipped")) == 2
    assert "<script>" in first.find("testcase/failure").get("message")
    assert second.get("failures") == "0"


@pytest.mark.parametrize("ending", [".html", ".md"])
def test_what_strangers_said_is_escaped(ending):
    text = FORMATS[ending](TESTED)
    assert "<script>" not in text
    assert "\x1b" not in text
    assert "\x00" not in text
    assert "&lt;script&gt;" in text


def test_html_needs_nothing_from_elsewhere_and_shows_types_by_layer():
    text = FORMATS[".html"](TESTED)
    assert not any(mark in text for mark in ("https://", "src=", "href=", "@import", "url(", "<link"))
    assert "attn_q of layer 1" in text.replace("attn_q.weight", "attn_q")
    assert "Q6_K" in text
    assert text.count("<rect") == 3 + 2


def test_markdown_has_a_row_for_each_check():
    text = FORMATS[".md"](TESTED)
    assert text.count("\n| ") == len(CHECKS) + 1 + 2
    assert "failed 1 of 4 checks" in text


def test_json_has_it_all():
    data = json.loads(FORMATS[".json"](TESTED))
    assert data["schema_version"] == 1
    assert [model["passed"] for model in data["models"]] == [False, True]
    assert data["models"][0]["checks"][0]["measured"] == {"tokens_per_second": 31.25}


def test_the_ending_chooses_and_an_unknown_one_is_refused_before_anything_is_done(tmp_path):
    write_reports([tmp_path / "deep" / "a.XML", tmp_path / "b.html"], TESTED)
    assert (tmp_path / "deep" / "a.XML").read_text().startswith("<?xml")
    with pytest.raises(UsageError, match=r"report\.pdf is no report"):
        check_reports([tmp_path / "report.pdf"])


def test_a_workflow_gets_annotations_and_a_summary(tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert step_summary(TESTED) == ""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    lines = step_summary(TESTED).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["::error", "::notice", "::notice"]
    assert "title=bot%3Aq4_K_M%3A answer" in lines[0]
    assert "### ❌" in (tmp_path / "summary.md").read_text()
