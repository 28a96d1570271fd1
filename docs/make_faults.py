"""Writes docs/faults.md: what was made to go wrong, and what came of it.

    python docs/make_faults.py > docs/faults.md

Read from ``docs/faults.json``, which the integration tests write (`integration/faults.py`).
"""

from __future__ import annotations

import json
from pathlib import Path

FAULTS = Path(__file__).with_name("faults.json")
HEAD = """# Faults, and what comes of them
Made by `docs/make_faults.py` of what `OLLAMAQ_RECORD_FAULTS=1 make integration` wrote: a line is there only because its
test passed. The servers are real ones that are killed, paused, cut off or run out of disk, unless the second column
says that a hostile one was made up.
"""
TABLE = """
## {area}
| fault | made by | outcome | test |
|---|---|---|---|
"""


def main() -> None:
    """Print the page."""
    page = HEAD
    for area, faults in json.loads(FAULTS.read_text()).items():
        page += TABLE.format(area=area[0].upper() + area[1:])
        for fault, told in faults.items():
            page += f"| {fault} | {told['made_by']} | {told['outcome']} | `{told['test'].rpartition('/')[2]}` |\n"
    print(page, end="")


if __name__ == "__main__":
    main()
