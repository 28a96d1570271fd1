"""Every error a user can meet: one sentence, what to do next, and an exit code."""

from __future__ import annotations


class OllamaqError(Exception):
    """Base of all expected errors.

    ``str(error)`` is one sentence naming the file or value at fault; ``next_step`` says what to do about it;
    ``exit_code`` is what the command line exits with.
    """

    exit_code = 1

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(message)
        self.next_step = next_step


class GateFailed(OllamaqError):
    """The model was built, but did not pass its smoke tests: nothing was published."""

    exit_code = 1


class UsageError(OllamaqError):
    """The command line or the configuration asks for something that cannot be."""

    exit_code = 2


class ModelRefused(OllamaqError):
    """The input model is damaged, hostile, incomplete or of a kind that is not supported."""

    exit_code = 3


class ServerError(OllamaqError):
    """An Ollama server or a registry cannot be reached, or refuses."""

    exit_code = 4


class ServerGone(ServerError):
    """Nobody answers, or the connection broke."""


class ToolchainError(OllamaqError):
    """Something on this machine is missing or broken: Docker, the embedded engine, disk space."""

    exit_code = 5
