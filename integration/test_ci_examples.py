"""The workflows of ``examples/ci``, step by step: what they run, on the real Ollama in a container."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

EXAMPLES = Path(__file__).parent.parent / "examples" / "ci"
INSTALL = "pip install "


def commands(name: str) -> list[str]:
    workflow = yaml.safe_load((EXAMPLES / name).read_text())
    if name == "gitlab.yml":
        return workflow["smoke"]["script"]
    return [step["run"] for step in workflow["jobs"]["smoke"]["steps"] if "run" in step]


def test_both_workflows_run_the_same():
    assert [" ".join(line.split()) for line in commands("github.yml")] == [
        " ".join(line.split()) for line in commands("gitlab.yml")
    ]


@pytest.fixture
def repository(tmp_path, smollm2) -> Path:
    (tmp_path / "finetune").symlink_to(smollm2(768))
    (tmp_path / "smoke.toml").write_text((EXAMPLES / "smoke.toml").read_text())
    return tmp_path


def test_every_step_of_the_workflow_works(repository, docker_image):
    scripts = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    summary = repository / "summary.md"
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary), "PATH": scripts}
    env = os.environ | github | {"OLLAMAQ_IMAGE": docker_image}
    steps = [step for step in commands("github.yml") if not step.startswith(INSTALL)]
    assert len(steps) == 2
    for step in steps:
        run = subprocess.run(["bash", "-e", "-c", step], cwd=repository, env=env, capture_output=True, text=True)
        assert run.returncode == 0, f"{step}\n{run.stdout}\n{run.stderr}"
    cases = ElementTree.parse(repository / "report.xml").findall("testsuite/testcase")
    assert {"loads", "answer", "prompt", "capital", "in English"} <= {case.get("name") for case in cases}
    assert summary.read_text().startswith("### ✅ bot:q4")
    assert "<svg" in (repository / "report.html").read_text()
