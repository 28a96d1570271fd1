"""A suite of a team's own on the real Ollama: what SmolLM2 can do passes, what it cannot fails, and says why."""

import json
import subprocess
import sys

import pytest

SUITE = """
[defaults]
options = { num_predict = 48 }

[[case]]
name = "capital"
prompt = "What is the capital of France?"
contains = "Paris"
language = "en"

[[case]]
name = "as JSON"
prompt = "Give the capital of France as JSON."
json_schema = { type = "object", properties = { n = { type = "integer" } }, required = ["n"] }

[[case]]
name = "two at once"
prompt = "What is the capital of France?"
concurrent = 2
contains = "Paris"

[[case]]
name = "in 300 tokens"
needle = { tokens = 300, depth = 0.9 }

[[case]]
name = "no tools"
prompt = "What is the weather in Paris?"
tools = [{ type = "function", function = { name = "weather", parameters = { type = "object", properties = {} } } }]
tool_call = { name = "weather" }

[[case]]
name = "as fast as itself"
prompt = "What is the capital of France?"
speed = { reference = "suited:q8_0", tokens_per_second = 0.01, first_token = 100 }
memory = "2GB"

[[case]]
name = "too small a memory"
prompt = "What is the capital of France?"
memory = "1MB"

[[case]]
name = "embeddings"
embed = ["The cat sat on the mat."]
dimension = 768
"""


@pytest.fixture(scope="module")
def model(ollama_server, smollm2, tmp_path_factory):
    place = tmp_path_factory.mktemp("suited")
    publish = ("publish", smollm2(768), "suited:q8_0", "--q", "Q8_0", "--to", ollama_server, "--quiet")
    subprocess.run([sys.executable, "-m", "ollamaq", *map(str, publish)], cwd=place, check=True)
    return "suited:q8_0"


def test_a_suite_tells_what_a_model_can_do_and_what_not(model, ollama_server, tmp_path):
    (tmp_path / "smoke.toml").write_text(SUITE)
    command = ("smoke", model, "--to", ollama_server, "--suite", tmp_path / "smoke.toml", "--json")
    run = subprocess.run([sys.executable, "-m", "ollamaq", *map(str, command)], capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    checks = {check["name"]: check for check in json.loads(run.stdout)["checks"]}
    good = ("capital", "as JSON", "two at once", "as fast as itself")
    assert all(checks[name]["ok"] for name in good), [checks[name] for name in good]
    assert "does not support tools" in checks["no tools"]["detail"]
    assert "takes 0." in checks["too small a memory"]["detail"]
    assert "does not support embeddings" in checks["embeddings"]["detail"]
    assert [name for name, check in checks.items() if check["case"] and check["ok"] is None] == []
    assert not any(checks[name]["ok"] for name in ("no tools", "too small a memory", "embeddings"))


def test_a_suite_recorded_with_a_baseline_passes_on_the_same_model(model, ollama_server, tmp_path):
    question = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
    (tmp_path / "train.jsonl").write_text(json.dumps(question) + "\n")
    suite = tmp_path / "smoke.toml"
    record = ("smoke", "record", model, "--examples", tmp_path / "train.jsonl", "-o", suite, "--to", ollama_server)
    smoke = ("smoke", model, "--to", ollama_server, "--suite", suite, "--json")
    for command in (record, smoke):
        run = subprocess.run([sys.executable, "-m", "ollamaq", *map(str, command)], capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
    (case,) = (check for check in json.loads(run.stdout)["checks"] if check["name"] == "line 1")
    assert case["ok"]


EMBEDDED = """
[[case]]
name = "capital"
prompt = "What is the capital of France?"
contains = "Paris"
concurrent = 2

[[case]]
name = "as JSON"
prompt = "Give the capital of France as JSON."
json_schema = { type = "object", properties = { n = { enum = [7] } }, required = ["n"] }

[[case]]
name = "memory"
prompt = "Hi"
memory = "2GB"

[[case]]
name = "embeddings"
embed = ["The cat sat on the mat."]
dimension = 768
"""


def test_a_suite_on_the_embedded_engine(smollm2, tmp_path, monkeypatch):
    pytest.importorskip("xllamacpp")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    (tmp_path / "smoke.toml").write_text(EMBEDDED)
    publish = ("publish", smollm2(768), "suited", "--q", "Q8_0", "--to", "store", "--quiet")
    smoke = ("smoke", "suited:q8_0", "--to", "store", "--suite", tmp_path / "smoke.toml", "--json")
    for command in (publish, smoke):
        line = [sys.executable, "-m", "ollamaq", *map(str, command)]
        run = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    checks = {check["name"]: check for check in json.loads(run.stdout)["checks"]}
    assert checks["capital"]["ok"]
    assert checks["as JSON"]["ok"]
    assert checks["memory"]["ok"] is None
    assert "does not embed" in checks["embeddings"]["detail"]
