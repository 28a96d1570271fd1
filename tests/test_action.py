"""The steps of the GitHub Action and of the GitLab snippet run on the example, and fail where it is broken."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "teams.md").read_text(), re.DOTALL)
GITHUB, GITLAB = (
    [step["run"] for step in ACTION["runs"]["steps"] if step["name"] != "install"],
    [line for line in yaml.safe_load(BLOCKS[1])["modelfiles"]["script"] if not line.startswith("pip ")],
)


@pytest.fixture
def repository(tmp_path):
    return Path(shutil.copytree(ROOT / "examples" / "team", tmp_path / "team"))


def run(steps, repository):
    """Exit codes of the steps, as a runner's shell runs them."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PATHS": "modelfiles", "OLLAMA": "0.34.2"}
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
    return [
        subprocess.run([*shell, step], cwd=repository, env=environment, capture_output=True).returncode
        for step in steps
    ]


@pytest.mark.parametrize("steps", [GITHUB, GITLAB], ids=["github", "gitlab"])
def test_the_steps_pass_on_the_example_and_fail_on_a_broken_one(steps, repository):
    assert run(steps, repository) == [0, 0, 0]
    broken = repository / "modelfiles" / "prod" / "code.Modelfile"
    broken.write_text(broken.read_text().replace("PARAMETER top_p 0.9", "PARAMETER  top_p 90"))
    assert run(steps, repository)[0] == 1
    assert run(steps, repository)[2] == 1


def test_every_input_of_the_action_is_used():
    used = set(re.findall(r"inputs\.(\w+)", (ROOT / "action.yml").read_text()))
    assert used == set(ACTION["inputs"])
