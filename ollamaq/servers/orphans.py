"""Containers that a killed ollamaq left, known by labels that tell whose they are, and removed at the next start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

OURS = "ollamaq"
PLACE, PID, STARTED = "ollamaq.place", "ollamaq.pid", "ollamaq.started"
"""A daemon may serve several machines and several process namespaces: a process is looked for in its own only."""


def labels() -> dict[str, str]:
    """The labels of a container that lives no longer than this process."""
    return {OURS: "1", PLACE: _place(), PID: str(os.getpid()), STARTED: _started(os.getpid())}


def orphans(docker: Any) -> list[str]:
    """IDs of the containers whose process, of this machine, is gone."""
    found = docker.api.containers(all=True, filters={"label": [OURS, f"{PLACE}={_place()}"]})
    return [str(each["Id"]) for each in found if not _alive(each.get("Labels") or {})]


def _alive(told: dict[str, str]) -> bool:
    pid = told.get(PID, "")
    return pid.isdigit() and _started(int(pid)) == told.get(STARTED)


def _started(pid: int) -> str:
    """When a process began, in ticks since boot (field 22 of proc(5) stat), or "" where there is none of that number.

    Numbers are given again; together with this they are not.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _place() -> str:
    """The boot of the machine, and the namespace of its process numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return "unknown"
