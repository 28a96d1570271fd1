"""Pages that are made from the code are those that the code makes."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_table_of_families_is_up_to_date():
    made = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_families.py"], capture_output=True, text=True, check=True
    )
    assert (ROOT / "docs" / "families.md").read_text() == made.stdout


def test_every_family_has_a_golden():
    page = (ROOT / "docs" / "families.md").read_text()
    assert "| none |" not in page
