"""A team's repository against the real Ollama: rendered, linted, published; a drift made by hand is found."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import parts
import pytest

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "team"


@pytest.fixture
def repository(tmp_path) -> Path:
    """A copy of the example, as its own repository."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "repository"))


@pytest.fixture
def run(repository, ollama_server, ollama_environment):
    """Run ``ollamaq`` in the repository; gives exit code and stdout."""

    def command(*arguments: object, cwd: Path = repository) -> tuple[int, str]:
        line = [sys.executable, "-m", "ollamaq", *map(str, arguments)]
        environment = ollama_environment | {"OLLAMA_HOST": ollama_server}
        done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout

    return command


def test_a_published_model_of_the_catalogue_drifts_when_it_is_changed_by_hand(
    run, smollm2, ollama_server, ollama_command, tmp_path
):
    publish = ("publish", smollm2(768), "--preset", "support", "--env", "staging", "--q", "Q4_K_M", "--json")
    code, told = run(*publish, "--expect", "Paris", "--prompt", "What is the capital of France?")
    assert code == 0, told
    (release,) = json.loads(told)["releases"]
    assert release["name"] == "acme/support:staging"
    assert all(check["ok"] for check in release["checks"]), release["checks"]
    assert run("modelfile", "drift", "support", "--env", "staging") == (0, "")

    (tmp_path / "Modelfile").write_text("FROM acme/support:staging\nSYSTEM Be rude.\nPARAMETER num_ctx 2048\n")
    ollama_command("create", "acme/support:staging", "-f", tmp_path / "Modelfile")
    code, told = run("modelfile", "drift", "support", "--env", "staging", "--json")
    assert code == 1
    (model,) = json.loads(told)["models"]
    assert {"SYSTEM", "PARAMETER num_ctx"} <= {change["what"] for change in model["changes"]}

    code, told = run("modelfile", "drift", "--env", "prod", "--quiet")
    assert (code, told.split()) == (1, ["acme/support:prod", "acme/extract:prod", "acme/code:prod"])


def test_a_model_that_builds_on_a_name_is_told_apart_from_it(run, repository, ollama_command, ollama_server, tmp_path):
    (tmp_path / "base").write_text(
        f"FROM {parts.smollm2_gguf()}\nSYSTEM I am base.\nPARAMETER stop <|im_end|>\nPARAMETER top_k 7\nLICENSE Base\n"
    )
    ollama_command("create", "qwen2.5:7b", "-f", tmp_path / "base")
    for env in ("staging", "prod"):
        made = repository / "modelfiles" / env / "extract.Modelfile"
        ollama_command("create", f"acme/extract:{env}", "-f", made)
    assert run("modelfile", "drift", "extract") == (0, "")
    httpx.post(
        f"{ollama_server}/api/create",
        json={"model": "acme/extract:prod", "from": "acme/extract:prod", "parameters": {"top_k": 9}, "stream": False},
        timeout=60,
    ).raise_for_status()
    code, told = run("modelfile", "drift", "extract")
    assert code == 1
    assert "+PARAMETER top_k 9" in told
    assert "staging" not in told


def test_a_pulled_modelfile_makes_the_same_model(run, ollama_command, ollama_server, tmp_path):
    first = tmp_path / "first"
    first.write_text(
        f'FROM {parts.smollm2_gguf()}\nSYSTEM """Say "yes",\nor no."""\nPARAMETER stop <|im_end|>\n'
        'PARAMETER stop "\n\té"\nPARAMETER temperature 0.70\nPARAMETER seed 1234567\nPARAMETER use_mmap true\n'
        "MESSAGE user hi: there\nMESSAGE assistant hello\nLICENSE MIT\nREQUIRES 0.14.0\nRENDERER qwen3-coder\n"
        "PARSER qwen3-coder\nTEMPLATE {{ .System }} {{ .Prompt }}\n"
    )
    ollama_command("create", "first", "-f", first)
    pulled = tmp_path / "pulled"
    assert run("modelfile", "pull", "first", "-o", pulled, "--from", parts.smollm2_gguf())[0] == 0
    assert run("modelfile", "pull", "first", "-o", pulled)[0] == 2
    ollama_command("create", "second", "-f", pulled)

    def shown(name: str) -> dict:
        told = httpx.post(f"{ollama_server}/api/show", json={"model": name}).json()
        keys = ("system", "license", "template", "messages", "requires", "capabilities")
        return {key: told.get(key) for key in keys} | {"parameters": sorted(told["parameters"].splitlines())}

    assert shown("second") == shown("first")
    assert run("modelfile", "diff", pulled, "first") == (0, "")

    assert run("modelfile", "pull", "second")[0] == 0
    (tmp_path / "third").write_text(run("modelfile", "pull", "second")[1])
    ollama_command("create", "third", "-f", tmp_path / "third")
    assert shown("third") == shown("first")
