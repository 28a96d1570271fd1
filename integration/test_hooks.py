"""``.pre-commit-hooks.yaml`` as pre-commit itself installs and runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IDENTITY = ("-c", "user.name=hooks", "-c", "user.email=hooks@localhost")
CONFIG = """\
repos:
- repo: {repository}
  rev: {commit}
  hooks: [{{id: ollamaq-lint}}, {{id: ollamaq-fmt}}]
"""


def git(*arguments: object, **environment: str) -> str:
    line = ["git", *IDENTITY, *map(str, arguments)]
    return subprocess.run(line, env=os.environ | environment, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def team(tmp_path) -> Path:
    """A repository that has the hooks of this one, as it lies here, in its configuration."""
    hooks, team = tmp_path / "hooks.git", tmp_path / "team"
    git("init", "-q", "--bare", hooks)
    here = {"GIT_DIR": str(hooks), "GIT_WORK_TREE": str(ROOT)}
    git("add", "--all", **here)
    git("commit", "-q", "-m", "hooks", **here)
    git("init", "-q", team)
    config = CONFIG.format(repository=hooks, commit=git("rev-parse", "HEAD", **here))
    (team / ".pre-commit-config.yaml").write_text(config)
    return team


def test_the_hooks_find_what_is_wrong_and_format_what_is_right(team, tmp_path):
    def run() -> tuple[int, str]:
        git("-C", team, "add", "--all")
        done = subprocess.run(
            [sys.executable, "-m", "pre_commit", "run", "--all-files"],
            cwd=team,
            env=os.environ | {"PRE_COMMIT_HOME": str(tmp_path / "installed")},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    modelfile = team / "bot.Modelfile"
    modelfile.write_text("FROM llama3.2\nPARAMETER temprature 1\n")
    code, told = run()
    assert code == 1, told
    assert "bot.Modelfile:2:1: OQ101" in told
    modelfile.write_text("from llama3.2\nPARAMETER temperature 1\n")
    code, told = run()
    assert code == 1, told
    assert "files were modified by this hook" in told
    assert modelfile.read_text() == "FROM llama3.2\nPARAMETER temperature 1\n"
    assert run()[0] == 0
