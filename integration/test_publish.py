"""``ollamaq publish`` against the real Ollama: in a container, and beside it on this machine."""

import json
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import numpy as np
import pytest
from lora import write_adapter
from safetensors_bytes import edit_tensor

QUESTION = "What is the capital of France?"


def ollamaq(*arguments: object, code: int = 0, cwd: Path) -> dict:
    """Run ``ollamaq … --json`` and give what it printed."""
    command = [sys.executable, "-m", "ollamaq", *map(str, arguments), "--json"]
    run = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert run.returncode == code, f"exit {run.returncode}\n{run.stdout}\n{run.stderr}"
    assert "Traceback" not in run.stderr
    return json.loads(run.stdout)


@pytest.fixture
def finetune(smollm2, tmp_path) -> Path:
    """A fine-tune that no server has seen: SmolLM2 with a comment of its own in its chat template."""
    directory = tmp_path / "Finetune"
    shutil.copytree(smollm2(768), directory)
    config = directory / "tokenizer_config.json"
    settings = json.loads(config.read_text())
    standalone = directory / "chat_template.jinja"
    template = standalone.read_text() if standalone.exists() else settings["chat_template"]
    standalone.write_text(f"{{#- {uuid.uuid4()} -#}}{template}")
    return directory


def checks(release: dict) -> dict[str, dict]:
    return {check["name"]: check for check in release["checks"]}


def models(url: str) -> dict[str, str]:
    return {model["name"]: model["digest"] for model in httpx.get(f"{url}/api/tags").json()["models"]}


def test_publish_through_a_container_sends_the_blob_once(finetune, docker_image, tmp_path):
    publish = ("publish", finetune, "--q", "Q5_K_M", "--to", "container", "--image", docker_image, "--expect", "Paris")
    first, second = (ollamaq(*publish, cwd=tmp_path)["releases"][0] for _ in range(2))
    for release in (first, second):
        assert release["name"] == "finetune:q5_K_M"
        assert release["passed"]
        assert all(check["ok"] for check in release["checks"]), release["checks"]
        assert re.search("paris", checks(release)["answer"]["detail"], re.IGNORECASE)
    assert (first["sent"], second["sent"]) == (True, False)
    assert first["digest"] == second["digest"]
    left = subprocess.run(
        ["docker", "ps", "-aq", "--filter", "label=ollamaq"], check=True, capture_output=True, text=True
    ).stdout
    assert not left


def test_a_package_is_the_same_whenever_and_wherever_it_is_made(finetune, ollama_server, tmp_path):
    made = []
    for where, threads in (("a", 1), ("b", 2)):
        ollamaq("publish", finetune, "--to", ollama_server, "-o", tmp_path / where, "--threads", threads, cwd=tmp_path)
        made.append({path.name: path.read_bytes() for path in (tmp_path / where).iterdir()})
    assert made[0] == made[1]
    assert set(made[0]) == {"model.gguf", "Modelfile", "release.json", "provenance.json", "bom.cdx.json"}


def test_several_mixes_are_published_together(finetune, ollama_server, tmp_path):
    ollamaq("publish", finetune, "team/bot", "--q", "Q8_0", "--q", "Q4_K_M", "--to", ollama_server, cwd=tmp_path)
    assert {"team/bot:q8_0", "team/bot:q4_K_M"} <= set(models(ollama_server))


def test_a_model_that_fails_its_gate_replaces_nothing(finetune, ollama_server, tmp_path):
    ollamaq("publish", finetune, "bot:prod", "--to", ollama_server, cwd=tmp_path)
    before = models(ollama_server)
    edit_tensor(finetune / "model.safetensors", "model.norm.weight", lambda bits: bits ^ np.uint16(0x8000))
    failed = ollamaq("publish", finetune, "bot:prod", "--to", ollama_server, code=1, cwd=tmp_path)
    assert "nothing was published" in failed["error"]["message"]
    assert models(ollama_server) == before
    told = json.loads((tmp_path / "bot-Q5_K_M" / "release.json").read_text())
    assert any(check["ok"] is False for check in told["smoke"])


def test_the_chat_template_of_training_is_in_effect_on_the_server(finetune, ollama_server, tmp_path):
    ollamaq("publish", finetune, "guarded:1", "--to", ollama_server, cwd=tmp_path)
    shown = httpx.post(f"{ollama_server}/api/show", json={"model": "guarded:1"}).json()
    assert shown["template"].endswith((finetune / "chat_template.jinja").read_text())
    request = {"model": "guarded:1", "messages": [{"role": "user", "content": QUESTION}], "_debug_render_only": True}
    prompt = httpx.post(f"{ollama_server}/api/chat", json=request | {"stream": False}, timeout=60).json()
    assert prompt["_debug_info"]["rendered_template"].startswith(
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM"
    )


def test_a_template_replaced_by_autodetection_is_noticed(smollm2, ollama_server, ollama_command, tmp_path):
    gguf = tmp_path / "unguarded.gguf"
    ollamaq("quantize", smollm2(768), gguf, "--q", "Q5_K_M", cwd=tmp_path)
    (tmp_path / "Modelfile").write_text(f"FROM {gguf}\n")
    ollama_command("create", "unguarded", "-f", tmp_path / "Modelfile")
    options = ("--checkpoint", smollm2(768), "--to", ollama_server)
    answer = ollamaq("smoke", "unguarded", *options, code=1, cwd=tmp_path)
    assert "prompt" in answer["error"]["message"]


def test_publish_of_a_width_that_k_quants_do_not_fit(smollm2, ollama_server, tmp_path):
    options = ("--q", "Q5_K_M", "--to", ollama_server, "--prompt", "What is the capital of Japan?", "--expect", "Tokyo")
    release = ollamaq("publish", smollm2(576), "narrow", *options, cwd=tmp_path)["releases"][0]
    assert release["passed"]


def test_an_adapter_is_published_as_the_model_it_makes_of_its_base(smollm2, ollama_server, tmp_path):
    base, adapter = smollm2(768), tmp_path / "Moved"
    write_adapter(base, adapter)
    ask = ("--to", ollama_server, "--q", "Q8_0", "--prompt", QUESTION)
    ollamaq("publish", base, "before", *ask, "--expect", "Paris", cwd=tmp_path)
    release = ollamaq("publish", adapter, *ask, "--expect", "Tokyo", cwd=tmp_path)["releases"][0]
    assert release["name"] == "moved:q8_0"
    assert release["passed"]
    told = json.loads((tmp_path / release["package"] / "release.json").read_text())
    assert (told["base"], told["adapters"][0]["name"]) == (base.name, "Moved")


@pytest.mark.parametrize(
    ("name", "said"), [("bad name", "bad name"), ("a:b:c", "a:b:c"), ("x" * 200, "x"), ("../up", "../up")]
)
def test_a_name_that_ollama_would_refuse_is_refused_before_any_work(name, said, finetune, ollama_server, tmp_path):
    failed = ollamaq("publish", finetune, name, "--to", ollama_server, code=2, cwd=tmp_path)
    assert said in failed["error"]["message"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Finetune"]


def test_a_port_that_nobody_answers_at_is_said_before_any_work(finetune, free_port, tmp_path):
    failed = ollamaq("publish", finetune, "--to", f"127.0.0.1:{free_port}", code=4, cwd=tmp_path)
    assert f"127.0.0.1:{free_port}" in failed["error"]["message"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Finetune"]
