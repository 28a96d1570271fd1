"""Pages that are made from the code are those that the code makes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("page", ["families", "chat-formats", "derived-templates", "faults", "tokenizers"])
def test_a_page_is_up_to_date(page):
    script = ROOT / "docs" / f"make_{page.replace('-', '_')}.py"
    made = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert (ROOT / "docs" / f"{page}.md").read_text() == made.stdout


def test_every_family_has_a_golden():
    page = (ROOT / "docs" / "families.md").read_text()
    assert "| none |" not in page


def test_every_recorded_fault_has_its_test():
    recorded = json.loads((ROOT / "docs" / "faults.json").read_text())
    for faults in recorded.values():
        for fault, told in faults.items():
            file, _, test = told["test"].rpartition("::")
            assert f"def {test}(" in (ROOT / file).read_text(), f"{fault}: {told['test']} is gone"
