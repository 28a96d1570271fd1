"""Ollama from the outside: its API, its names, its address, and its models on disk."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""``progress(label, done, total)``, in bytes; ``total`` is 0 while unknown."""


def silent(label: str, done: int, total: int) -> None:
    """The progress of which nobody wants to hear."""
