"""What became of faults that tests made, written down for docs/faults.md.

A test of a fault ends with ``record(…)``, which is therefore reached only where the fault was survived. With
``OLLAMAQ_RECORD_FAULTS=1`` it is kept in ``docs/faults.json``; then ``python docs/make_faults.py > docs/faults.md``.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

FAULTS = Path(__file__).resolve().parent.parent / "docs" / "faults.json"
AREAS = ("server", "registry", "publishing", "container", "this machine")


def record(area: str, fault: str, *, made_by: str, outcome: str) -> None:
    """Keep the outcome of one fault.

    Args:
        area: what misbehaves: one of ``AREAS``, in whose order the page has them.
        fault: what goes wrong, in few words and unique in its area: ``killed in mid-upload``.
        made_by: how the test brings it about: ``kill -9 of the real docker-registry after 3 of 8 MB``.
        outcome: what was seen and asserted: ``the next push sends the other 5 MB``.
    """
    if area not in AREAS:
        raise ValueError(f"{area!r} is none of {AREAS}")
    if os.environ.get("OLLAMAQ_RECORD_FAULTS") != "1":
        return
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" (")[0].partition("[")[0]
    with FAULTS.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        told = json.loads(file.read() or "{}")
        told.setdefault(area, {})[fault] = {"made_by": made_by, "outcome": outcome, "test": test}
        file.truncate(0)
        json.dump({key: dict(sorted(told[key].items())) for key in AREAS if key in told}, file, indent=1)
        file.write("\n")
